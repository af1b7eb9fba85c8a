"""What is only there in development: the watcher of the files, the page for code that does not
load, the debugger. Nothing of it is imported by a server that was started without."""
