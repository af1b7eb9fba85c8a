"""What a process is to the kernel: signals, privileges, descriptors, title, parent, pid file."""
