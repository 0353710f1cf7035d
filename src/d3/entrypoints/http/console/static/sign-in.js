// Nobody is signed in any more: the pictures of whoever was are forgotten.

import { forget } from "./thumbnails.js";

forget();
