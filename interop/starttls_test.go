package interop_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/require"
)

// mailTLS returns the configuration of a server on 127.0.0.1, and a file with
// the certificate that a client has to trust.
func mailTLS(t *testing.T) (config *tls.Config, file string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "bufsock.test"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		NotAfter:     time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	config = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	return config, writeFile(t, t.TempDir(), "cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
}

// A mailProtocol is one in which a command begins TLS.
type mailProtocol struct {
	greeting string
	begin    string // the command
	ready    string // the reply to it
	refused  string // the reply to one that came with more
	answer   func(s *mailSession, command string) (reply string, err error)
}

var pop3 = mailProtocol{
	greeting: "+OK ready\r\n",
	begin:    "STLS",
	ready:    "+OK begin TLS\r\n",
	refused:  "-ERR data behind STLS\r\n",
	answer: func(s *mailSession, command string) (string, error) {
		switch verb, _, _ := strings.Cut(command, " "); verb {
		case "CAPA":
			return "+OK\r\nSTLS\r\nUSER\r\n.\r\n", nil
		case "USER", "PASS", "QUIT":
			return "+OK\r\n", nil
		case "RETR":
			return "+OK\r\n" + strings.ReplaceAll(s.mail, "\r\n.", "\r\n..") + ".\r\n", nil
		}
		return "-ERR what?\r\n", nil
	},
}

var smtp = mailProtocol{
	greeting: "220 ready\r\n",
	begin:    "STARTTLS",
	ready:    "220 begin TLS\r\n",
	refused:  "554 data behind STARTTLS\r\n",
	answer: func(s *mailSession, command string) (string, error) {
		switch verb, _, _ := strings.Cut(command, " "); verb {
		case "EHLO":
			return "250-here\r\n250 STARTTLS\r\n", nil
		case "MAIL", "RCPT", "NOOP":
			return "250 fine\r\n", nil
		case "DATA":
			if _, err := s.Send([]byte("354 go on\r\n")); err != nil {
				return "", err
			}
			mail, err := s.RecvUntil([]byte("\r\n.\r\n"), bufsock.WithMaxSize(1<<20))
			s.mail = strings.ReplaceAll(string(mail)+"\r\n", "\r\n..", "\r\n.")
			return "250 got it\r\n", err
		case "QUIT":
			return "221 bye\r\n", nil
		}
		return "500 what?\r\n", nil
	},
}

// A mailSession is a connection to a mail server.
type mailSession struct {
	*bufsock.BufferedSocket
	config   *tls.Config
	mail     string
	secure   bool     // TLS has begun
	commands []string // carried out, "tls" before those that came through TLS
}

// listenMail returns the address of a server and what comes of the first
// connection to it.
func listenMail(t *testing.T, p *mailProtocol, config *tls.Config, mail string) (string, <-chan outcome[*mailSession]) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	return l.Addr().String(), goDo(func() (*mailSession, error) {
		conn, err := l.Accept()
		if err != nil {
			return nil, err
		}
		sock := bufsock.NewBufferedSocket(conn, bufsock.WithTimeout(patience))
		defer sock.Close()
		s := &mailSession{BufferedSocket: sock, config: config, mail: mail}
		return s, s.serve(p)
	})
}

func (s *mailSession) serve(p *mailProtocol) error {
	if _, err := s.Send([]byte(p.greeting)); err != nil {
		return err
	}
	for line, err := range s.Messages(crlf) {
		if err != nil {
			return err
		}
		var reply string
		switch command := string(line); {
		case command == p.begin && !s.secure:
			reply, err = s.beginTLS(p)
		case s.secure:
			s.commands = append(s.commands, "tls "+command)
			reply, err = p.answer(s, command)
		default:
			s.commands = append(s.commands, command)
			reply, err = p.answer(s, command)
		}
		if err != nil {
			return err
		}
		if _, err := s.Send([]byte(reply)); err != nil {
			return err
		}
	}
	return nil
}

// beginTLS does the handshake, unless the client has sent something behind the
// command. Then it returns what to reply, and leaves the socket with nothing
// received. The reply that the command is accepted belongs to the old
// connection, so it is sent there.
func (s *mailSession) beginTLS(p *mailProtocol) (reply string, err error) {
	err = s.Upgrade(func(conn net.Conn) (net.Conn, error) {
		if _, err := io.WriteString(conn, p.ready); err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		secure := tls.Server(conn, s.config)
		return secure, secure.HandshakeContext(ctx)
	})
	if errors.Is(err, bufsock.ErrBufferedData) {
		_, err := s.Discard(s.Buffered())
		return p.refused, err
	}
	s.secure = err == nil
	return "", err
}

// longMail returns a mail in lines, of which some begin with a dot.
func longMail() string {
	var b strings.Builder
	b.WriteString("Subject: bufsock\r\n\r\n")
	for i := range 10_000 {
		fmt.Fprintf(&b, "%s line %d\r\n", strings.Repeat(".", i%3), i)
	}
	return b.String()
}

func TestCurlPOP3(t *testing.T) {
	t.Parallel()
	curl := program(t, "curl", "curl")
	config, cert := mailTLS(t)
	mail := longMail()
	addr, served := listenMail(t, &pop3, config, mail)
	got := runProgram(t, "", curl, "-sS", "--ssl-reqd", "--cacert", cert, "-u", "user:secret", "pop3://"+addr+"/1")
	require.Zero(t, got.code, got.stderr)
	require.True(t, mail == got.stdout, "%d bytes became %d", len(mail), len(got.stdout))
	require.Equal(t, []string{"CAPA", "tls CAPA", "tls USER user", "tls PASS secret", "tls RETR 1", "tls QUIT"},
		await(t, served).commands)
}

func TestCurlSMTP(t *testing.T) {
	t.Parallel()
	curl := program(t, "curl", "curl")
	config, cert := mailTLS(t)
	mail := longMail()
	addr, served := listenMail(t, &smtp, config, "")
	got := runProgram(t, mail, curl, "-sS", "--ssl-reqd", "--cacert", cert, "--mail-from", "a@x.test",
		"--mail-rcpt", "b@x.test", "-T", "-", "smtp://"+addr+"/me")
	require.Equal(t, result{"", "", 0}, got)
	s := await(t, served)
	require.True(t, mail == s.mail, "%d bytes became %d", len(mail), len(s.mail))
	require.Equal(t, []string{"EHLO me", "tls EHLO me",
		"tls MAIL FROM:<a@x.test>", "tls RCPT TO:<b@x.test>", "tls DATA", "tls QUIT"}, s.commands)
}

// TestInjectionBehindSTARTTLS sends a command in the clear, in one segment with
// the one that begins TLS. A server that keeps its buffer would carry it out as
// if it had come through TLS (CVE-2011-0411).
func TestInjectionBehindSTARTTLS(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]*mailProtocol{"pop3": &pop3, "smtp": &smtp} {
		t.Run(name, func(t *testing.T) {
			config, _ := mailTLS(t)
			addr, served := listenMail(t, p, config, "")
			c, err := bufsock.Dial(t.Context(), "tcp", addr, bufsock.WithTimeout(patience))
			require.NoError(t, err)
			defer c.Close()
			_, err = c.RecvUntil(crlf, bufsock.WithDelimiter())
			require.NoError(t, err)

			_, err = c.Send([]byte(p.begin + "\r\nNOOP injected\r\n"))
			require.NoError(t, err)
			reply, err := c.RecvUntil(crlf, bufsock.WithDelimiter())
			require.NoError(t, err)
			require.Equal(t, p.refused, string(reply))

			// Without more behind the command the same session begins TLS.
			_, err = c.Send([]byte(p.begin + "\r\n"))
			require.NoError(t, err)
			reply, err = c.RecvUntil(crlf, bufsock.WithDelimiter())
			require.NoError(t, err)
			require.Equal(t, p.ready, string(reply))
			require.NoError(t, c.Upgrade(func(conn net.Conn) (net.Conn, error) {
				return tls.Client(conn, &tls.Config{InsecureSkipVerify: true}), nil
			}))
			_, err = c.Send([]byte("QUIT\r\n"))
			require.NoError(t, err)
			_, err = c.RecvUntil(crlf)
			require.NoError(t, err)
			require.NoError(t, c.CloseWrite())
			require.Equal(t, []string{"tls QUIT"}, await(t, served).commands)
		})
	}
}
