package bufsock

// sysGetsockopt is a system call of its own since Linux 4.3.
const sysGetsockopt = 365
