// Package bufsock wraps a [net.Conn] for people who parse a protocol: it
// receives until a delimiter, an exact size or the end of the stream, or a
// message of several parts, with a limit on every message and one timeout on
// every call, and it loses nothing when something goes wrong.
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
//   - a message of several parts, such as a line that tells a size and then the
//     bytes: [BufferedSocket.RecvFunc], see "Messages of several parts" below;
//   - a look at what comes: [BufferedSocket.Peek];
//   - whole messages without a protocol of one's own: [NetstringSocket];
//   - to send: [BufferedSocket.Send], or [BufferedSocket.Buffer] several times
//     and then [BufferedSocket.Flush];
//   - another ending: [BufferedSocket.RecvUntilAny] of several delimiters,
//     [BufferedSocket.RecvSplit] by a [bufio.SplitFunc],
//     [BufferedSocket.RecvClose] at the end of the stream;
//   - no allocation per message: [AppendTo];
//   - to end so that the peer gets the last answer: [BufferedSocket.Shutdown].
//
// # Three laws
//
// Conservation: no byte is lost, repeated or reordered, whatever happens: a
// timeout, a cancellation, the end of the stream, a reset, a limit, a bad
// argument, a panic in a callback. (The one exception is named at WriteTo: a
// copy that the kernel makes.) The bytes taken from the connection are the
// bytes returned, those that a Discard call said it has dropped and those in
// the receive buffer. But for the Discard calls a receive that fails consumes
// nothing, and the same call made again goes on where it was, without searching
// again what it has searched. A send that fails leaves exactly the unsent bytes
// in the send buffer. All this holds for a message of several parts, too. And a
// stream that was broken off is never taken for one that has ended.
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
// Unix systems that is one non-blocking attempt, and on TLS over them a receive
// fails at once if nothing has come. On other connections (a net.Pipe, a type
// of your own) and on other systems it waits at most a millisecond.
//
// With [WithIdleTimeout] a receive has two bounds, one behind the other: how long
// it waits for a message to begin, and how long that may take.
//
// After a timeout the answer is still to come. Receive it before you ask
// something else, or its successor will be one behind: a client may count the
// answers that it still has to receive. A stream that only repeats itself, such
// as that of a sensor, can be emptied: Discard(1<<30, WithTimeout(NonBlocking)).
//
// [WithContext] ends a call when a context is done. Bytes that have arrived win
// over the cancellation, and the connection stays usable. A call that has to
// wait with a context that can be canceled allocates a little. A context does
// not lengthen a call: with one of a minute the default timeout still ends it
// after 10 seconds, unless it is given NoTimeout as well. A send is tried even
// if its context has ended.
//
// To shut a server down without cutting an answer off, give the context to
// receives and not to sends, and ask it before each receive, because a busy
// peer has bytes there always:
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
// Each call is whole or not at all, but two calls are not: see the next section
// for a message that has several parts.
//
// # Messages of several parts
//
// Between two calls a timeout, a cancellation or another goroutine may come. If
// they belong to one message the rest of it is then read as the next, and who
// chose its bytes chooses what the program reads. So one message should be one
// call:
//
//   - a line that tells a size and then the bytes, as in Redis, memcached or
//     IMAP, values in values, parts that tell what comes behind them:
//     [BufferedSocket.RecvFunc], whose function is ordinary code, recursive if
//     need be;
//   - a size in a header of fixed length: RecvFunc with [Message.Next] twice, or
//     Peek of the header and then RecvSize of both;
//   - a size as a varint, as in MQTT: RecvFunc with [encoding/binary.ReadUvarint]
//     of the Message;
//   - lines up to a mark, such as a lone dot: RecvFunc with a loop of
//     [Message.Until]. RecvUntil of "\r\n.\r\n" runs into the next message if no
//     line stands before the dot;
//   - a netstring and more, as in SCGI: RecvFunc with [Message.Netstring];
//   - a body too large to hold: RecvFunc for what comes before it, and then the
//     socket as a reader. If that fails close the connection;
//   - as many whole lines as have come, at once: [BufferedSocket.RecvSplit].
//
// This receives a list of lines:
//
//	var list []string
//	err := s.RecvFunc(func(m *bufsock.Message) error {
//		for list = nil; ; { // it may run again
//			line, err := m.Until([]byte("\r\n"))
//			if err != nil || string(line) == "." {
//				return err
//			}
//			list = append(list, string(line))
//		}
//	})
//
// The function runs again from the first byte when the call is made again, so it
// must begin by emptying what it fills. What a step returns is valid until the
// function returns: string(b) and [bytes.Clone] copy.
//
// An error that the peer reports, such as Redis's "-ERR …", is a message like
// others: keep it in a variable and return nil. If the function returned it as an
// error the message would not be consumed, and the next call would receive it
// again.
//
// With several calls mind two ends. Behind a header that was consumed the end
// of the stream matches io.EOF, although the message was cut. And Messages ends
// without an error at a clean end, so that a list that must end in a mark needs
// an error behind the loop.
//
// # Limits
//
// The max size bounds a message: that of RecvUntil and RecvUntilAny with its
// delimiter, the token of RecvSplit, everything that RecvClose returns, the
// payload of a netstring, all that RecvFunc takes and peeks at. It is
// [DefaultMaxSize] unless set. It does not apply to Discard, whose caller names
// the size, and to RecvSize and Peek only if they are given [WithMaxSize].
//
// A message too long is not consumed: read it with a larger limit, or skip it
// with [BufferedSocket.DiscardUntil] or [NetstringSocket.DiscardNetstring]. To
// skip one that tells its size, let the function of RecvFunc return nil when it
// has taken the size, and call [BufferedSocket.Discard] for the rest. A Discard
// that times out has dropped what it says: go on with what is left.
//
// # Errors
//
//   - [*TimeoutError]: the call's time was up. The same receive made again goes
//     on; a send goes on with Flush. If its Buffered grows from one try to the
//     next the peer is slow, else it has stalled.
//   - [*ConnectionClosedError]: the peer ended the stream. It matches [io.EOF]
//     between messages and [io.ErrUnexpectedEOF] inside one.
//   - [*MessageTooLongError]: the limit.
//   - [*NetstringProtocolError], [*NetstringInvalidSizeError] and
//     [*NetstringMessageTooLongError]: not a netstring, or too long.
//   - The cause of the context, if that was canceled.
//   - An error that matches [net.ErrClosed], after Close or Shutdown.
//   - An error that matches [ErrBroken], of every send behind one that ended the
//     sending side. Receive before you close: the peer has often said why.
//   - An error that matches [ErrInvalidArgument], and nothing was touched.
//   - An error that matches [ErrBufferedData], of Upgrade, or
//     [errors.ErrUnsupported], of CloseRead, CloseWrite and SyscallConn.
//   - What the function given to RecvFunc, RecvSplit or Upgrade returned.
//
// What else the connection reports, such as a reset, is returned as it is, and by
// a receive again and again: the end that connections report behind it is none.
//
// After a timeout or a cancellation the dialogue can go on, but for a TLS session
// whose write it has cut; after a message too long it can go on behind that; and
// after ErrInvalidArgument, ErrBufferedData and errors.ErrUnsupported as if the
// call had not been made. After any other error close the socket.
//
// Error texts quote at most 32 foreign bytes and never show a payload.
//
// # Goroutines
//
// Any number of goroutines may call anything. One receive and one send run at a
// time, each side for itself, and the others wait their turn within their own
// timeout. They get it in the order in which they came, but a few that come
// later and find the socket free may go first. A blocked receive never holds up
// a send, nor a blocked send a receive. Close, CloseRead, CloseWrite, the
// setters, the deadline methods, RecvBuffer, Buffered, SendBuffer and Unsent do
// not wait for either, but for CloseWrite on TLS. A RecvFunc is one receive, from
// its start until its function has returned.
//
// # Ending a dialogue
//
// Close drops what is unsent, and if the peer is still sending the kernel may
// reset the connection, which can take the last answer away from the peer. So
// end with [BufferedSocket.Shutdown] where that matters: it sends what is
// buffered, half-closes, and waits for the peer's end within its timeout. Close
// is for connections that have failed, and for other goroutines that are to stop.
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
// belong to TLS. Send such a line with one Send: many receivers look at what one
// read returns, and refuse it in two pieces.
//
// # Connections
//
// Any net.Conn that is a stream will do, if a deadline that passes ends its Read
// or Write and leaves it usable: timeouts and contexts are made of that. It does
// not on these:
//
//   - A channel of golang.org/x/crypto/ssh refuses deadlines. A call that has a
//     timeout or a context fails at once; what is left is [NoTimeout] and Close.
//   - On the NetConn of github.com/coder/websocket, and on a stream of
//     github.com/moby/spdystream, a timeout or cancellation ends the connection.
//   - A Read of github.com/cloudwego/netpoll is not woken by a cancellation, nor
//     by a deadline that is set while it waits.
//   - A Write of github.com/xtaci/smux, of spdystream and of the bufconn of
//     google.golang.org/grpc that times out reports a wrong count: give sends
//     NoTimeout there, or bytes are lost or repeated.
//   - A descriptor in blocking mode, as after File().Fd() of a net.Conn, or if
//     another process that has the same descriptor, from SCM_RIGHTS, sets that
//     mode. Calls then wait in the kernel, whatever their timeout.
//   - On TLS a write that times out ends the session. And on TLS 1.3 a receive
//     may have to answer, and then waits for a blocked send, inside crypto/tls,
//     past its own timeout: give sends a timeout, too.
//
// A type of your own around a connection, say to log what it transfers, hides
// what that can do beyond a net.Conn: pass CloseRead and CloseWrite on, and
// return [errors.ErrUnsupported] where the connection has none. A connection of
// package net in it is not tried without waiting any more.
//
// # Against hostile peers
//
// What a peer can make a socket do is bounded by what you set:
//
//   - Memory: the receive buffer holds no more than a message of max size and
//     one read, in memory of at most a few times that. A size that was only
//     announced costs nothing, but RecvSize and Peek will go on as far as the
//     caller told them to: give them WithMaxSize for a size that came from the
//     peer. A function given to RecvFunc bounds the depth of its recursion.
//   - Time: a timeout bounds a message, also one that comes byte by byte. It
//     does not bound a dialogue; a deadline set with SetDeadline, or one
//     context for all calls of it, does. An idle timeout bounds the silence
//     between messages.
//   - A peer that does not read: Send ends with its timeout, and keeps what is
//     unsent. Close the connection then, rather than Buffer more. With
//     [WithFlush] call Flush when [BufferedSocket.Unsent] is large: a peer that
//     sends without end makes no receive wait.
//   - Malformed netstrings fail at the first wrong byte, sizes over the limit
//     while their digits arrive.
//   - Error texts may be logged: foreign bytes are quoted, at most 32 of them,
//     and payloads are not shown.
//
// How many connections there may be is for the caller to bound.
//
// # Testing
//
// In a bubble of [testing/synctest], over a [net.Pipe], timeouts are exact and
// take no time:
//
//	synctest.Test(t, func(t *testing.T) {
//		conn, peer := net.Pipe()
//		defer conn.Close()
//		go io.WriteString(peer, "220 mail.exam") // and no more
//		s := bufsock.NewBufferedSocket(conn, bufsock.WithTimeout(time.Minute))
//		start := time.Now()
//		_, err := s.RecvUntil([]byte("\r\n"))
//		d := time.Since(start)
//		if !errors.Is(err, os.ErrDeadlineExceeded) || d != time.Minute {
//			t.Errorf("after %v: %v", d, err)
//		}
//	})
//
// Package [github.com/bufsock/bufsock/bufsocktest] plays a stream to a parser
// under every cut, and with a pause, a reset or an end at every place.
//
// # When not to use it
//
// To read a stream that cannot stall, such as a file, use [bufio]. To parse a
// protocol that has a library, use the library.
package bufsock
