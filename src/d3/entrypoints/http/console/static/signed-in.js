// Somebody signed in beside a page that waits for it: that page is told, and goes on.
new BroadcastChannel("d3").postMessage("signed-in");
