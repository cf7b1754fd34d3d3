// Package connections holds no code but tests: they put bufsock around the
// kinds of net.Conn that programs wrap, and hold it to the same rules on each.
// See README.md.
package connections
