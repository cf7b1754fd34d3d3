// Package interop holds no code but tests: they run bufsock, mostly in the
// programs of the examples folder, against other people's programs. See
// README.md for what they need.
package interop
