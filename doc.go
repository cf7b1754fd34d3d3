// Package bufsock wraps a [net.Conn] for people who parse a protocol: it
// receives until a delimiter, an exact size or the end of the stream, with a
// limit on every message and one timeout on every call, and it loses nothing
// when something goes wrong.
//
// [NewBufferedSocket] wraps a connection, [Dial] opens one.
//
//	s := bufsock.NewBufferedSocket(conn, bufsock.WithTimeout(5*time.Second))
//	line, err := s.RecvUntil([]byte("\r\n"))
//
// Most programs want one of these:
//
//   - a line, or anything else that ends in a delimiter:
//     [BufferedSocket.RecvUntil], and [BufferedSocket.Messages] to range over
//     them;
//   - a body of known size: [BufferedSocket.RecvSize];
//   - a look at what comes: [BufferedSocket.Peek];
//   - whole messages without a protocol of one's own: [NetstringSocket];
//   - to send: [BufferedSocket.Send], or [BufferedSocket.Buffer] several times
//     and then [BufferedSocket.Flush];
//   - another ending: [BufferedSocket.RecvUntilAny] of several delimiters,
//     [BufferedSocket.RecvSplit] by a [bufio.SplitFunc],
//     [BufferedSocket.RecvClose] at the end of the stream;
//   - no allocation per message: [AppendTo].
//
// # Three laws
//
// Conservation: no byte is lost, repeated or reordered, whatever happens: a
// timeout, a cancellation, the end of the stream, a reset, a limit, a bad
// argument, a panic in a callback. (The one exception is named at WriteTo: a
// copy that the kernel makes.) The bytes taken from the connection are the
// bytes returned, those that a Discard call said it has dropped and those in
// the receive buffer. Any other receive that fails consumes
// nothing, and the same call made again goes on where it was, without searching
// again what it has searched. A send that fails leaves exactly the unsent bytes
// in the send buffer.
//
// Segmentation independence: results and errors depend on the bytes of the
// stream, never on how the network cut them. Exempt are Recv and Read, which
// return what is there, the moment at which a timeout falls, and the counts of
// buffered bytes in errors. Limits are exact. A message that is too long or
// malformed fails as soon as that can be known, without waiting for more.
//
// One deadline per call: the timeout bounds the whole call, with the wait for
// another goroutine's call, every refill and every partial write. It does not
// start again when bytes trickle in.
//
// # Timeouts
//
// Every Recv… and Send… call has a timeout: the one given with [WithTimeout],
// else that of the socket, which is [DefaultTimeout] unless set. With
// [NoTimeout] it waits for ever, with [NonBlocking] it does not wait: it takes
// what the kernel holds or has room for, and fails with a *TimeoutError that
// matches [ErrWouldBlock] if that is not enough. On TCP and Unix sockets on
// Unix systems that is one non-blocking attempt; on other connections (a
// tls.Conn, a net.Pipe) and on other systems it waits at most a millisecond.
//
// [WithContext] ends a call when a context is done. Bytes that have arrived win
// over the cancellation, and the connection stays usable. A call that has to
// wait with a context that can be canceled allocates a little. To shut a server
// down without cutting an answer off, give the context to receives and not to
// sends, and ask it before each receive, because a busy peer has bytes there
// always:
//
//	for ctx.Err() == nil {
//		request, err := ns.ReadNetstring(bufsock.WithContext(ctx))
//		if err != nil {
//			return err
//		}
//		// and the answer
//	}
//
// Deadlines set with SetDeadline, SetReadDeadline and SetWriteDeadline bound
// these calls, too, whichever ends first, and are left as they were set. They
// alone bound Read, Write, WriteTo and ReadFrom, as those of any net.Conn. To
// give several calls one deadline and no other, set it and the timeout to
// [NoTimeout]. Set deadlines on the socket and not on the connection below it,
// whose deadlines the socket changes while a call waits.
//
// A call that is answered from the buffer touches no deadline and makes no
// system call.
//
// A TLS handshake is best done before the connection is wrapped, and must be if
// a type of your own around the tls.Conn hides it. If it is left to the first
// receive or send it counts against the timeout of that call and the deadlines
// that are set when it begins, and if it does not end in time, the session has
// ended.
//
// Each call is whole or not at all. A message that takes several calls, such as
// a line with a size and then the bytes, is not: after a timeout in its middle
// go on with the call that failed, or bound all of them with the deadline of
// one context and give up the connection if that ends.
//
// # Limits
//
// The max size bounds a message: that of RecvUntil and RecvUntilAny with its
// delimiter, the token of RecvSplit, everything that RecvClose returns, the
// payload of a netstring. It is [DefaultMaxSize] unless set. It does not apply
// to RecvSize, Peek and Discard, whose caller names the size.
//
// A message too long is not consumed: read it with a larger limit, or skip it
// with [BufferedSocket.DiscardUntil] or [NetstringSocket.DiscardNetstring].
//
// # Errors
//
//   - [*TimeoutError]: the call's time was up. The same receive made again goes
//     on; a send goes on with Flush.
//   - [*ConnectionClosedError]: the peer ended the stream. It matches [io.EOF]
//     between messages and [io.ErrUnexpectedEOF] inside one.
//   - [*MessageTooLongError]: the limit.
//   - [*NetstringProtocolError], [*NetstringInvalidSizeError] and
//     [*NetstringMessageTooLongError]: not a netstring, or too long.
//   - The cause of the context, if that was canceled.
//   - An error that matches [net.ErrClosed], after Close.
//   - An error that matches [ErrInvalidArgument], and nothing was touched.
//   - An error that matches [ErrBufferedData], of Upgrade, or
//     [errors.ErrUnsupported], of CloseRead, CloseWrite and SyscallConn.
//   - What the function given to RecvSplit or Upgrade returned.
//
// What else the connection reports, such as a reset, is returned as it is.
// Error texts quote at most 32 foreign bytes and never show a payload.
//
// # Goroutines
//
// Any number of goroutines may call anything. One receive and one send run at a
// time, each side for itself, and the others wait their turn within their own
// timeout. They get it in the order in which they came, but a few that come
// later and find the socket free may go first. A blocked receive never holds up
// a send, nor a blocked send a receive. Close, CloseRead, CloseWrite, the
// setters, the deadline methods, RecvBuffer, Buffered and SendBuffer do not
// wait for either, but for CloseWrite on TLS.
//
// # Handing the connection on
//
// A socket is a [net.Conn]: give it to [crypto/tls.Client], [crypto/tls.Server]
// or a reader of another protocol in the middle of a stream, and they get what
// is buffered first, then what comes. The connection below it has lost those
// bytes to the socket: do not go on with that.
//
// For STARTTLS use [BufferedSocket.Upgrade], which puts TLS under the same
// socket and refuses plaintext that came ahead of its time. To turn a
// connection that begins with a line in plaintext, such as a PROXY header, into
// TLS, wrap the socket with tls.Server instead: there the bytes behind the line
// belong to TLS.
//
// # Against hostile peers
//
// What a peer can make a socket do is bounded by what you set:
//
//   - Memory: the receive buffer holds no more than a message of max size and
//     one read, in memory of at most a few times that. A size that was only
//     announced costs nothing, but RecvSize and Peek will go on as far as the
//     caller told them to: check a size that came from the peer.
//   - Time: a timeout bounds a message, also one that comes byte by byte. It
//     does not bound a dialogue; a deadline set with SetDeadline, or one
//     context for all calls of it, does.
//   - A peer that does not read: Send ends with its timeout, and keeps what is
//     unsent. Close the connection then, rather than Buffer more.
//   - Malformed netstrings fail at the first wrong byte, sizes over the limit
//     while their digits arrive.
//   - Error texts may be logged: foreign bytes are quoted, at most 32 of them,
//     and payloads are not shown.
//
// How many connections there may be is for the caller to bound.
//
// # When not to use it
//
// To read a stream that cannot stall, such as a file, use [bufio]. To parse a
// protocol that has a library, use the library.
package bufsock
