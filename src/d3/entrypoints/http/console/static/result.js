// The page of a result: the picture, where this browser has it.

import { show } from "./thumbnails.js";

show(document);
