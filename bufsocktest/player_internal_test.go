package bufsocktest

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func isTimeout(err error) bool {
	e, ok := err.(net.Error)
	return ok && e.Timeout() && errors.Is(err, os.ErrDeadlineExceeded)
}

// inBubble gives f a player of a bubble, and ends with it.
func inBubble(t *testing.T, s scene, f func(t *testing.T, p *Player)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := newPlayer(s.place, s.steps())
		defer p.Close()
		f(t, p)
	})
}

func pieces(pieces ...string) (s scene) {
	s.what = none
	for _, piece := range pieces {
		s.pieces = append(s.pieces, []byte(piece))
		s.place += len(piece)
	}
	return s
}

// interruption returns the scene "ab", what, "cd".
func interruption(what Interruption) scene { return interrupted([]byte("abcd"), what)[2] }

func (p *Player) readString(size int) (string, error) {
	b := make([]byte, size)
	n, err := p.Read(b)
	return string(b[:n]), err
}

func TestPlayerReadsPieceByPiece(t *testing.T) {
	inBubble(t, pieces("abc", "d", "efghi"), func(t *testing.T, p *Player) {
		for _, want := range []string{"ab", "c", "d", "ef", "gh", "i"} {
			got, err := p.readString(2)
			require.NoError(t, err)
			require.Equal(t, want, got)
		}
		for range 2 {
			_, err := p.readString(0)
			require.NoError(t, err)
			_, err = p.readString(2)
			require.Equal(t, io.EOF, err)
		}
	})
}

func TestPlayerEndsWithData(t *testing.T) {
	s := pieces("abc", "def")
	s.joined = true
	inBubble(t, s, func(t *testing.T, p *Player) {
		for _, want := range []struct {
			text string
			err  error
		}{{"ab", nil}, {"c", nil}, {"de", nil}, {"f", io.EOF}, {"", io.EOF}} {
			got, err := p.readString(2)
			require.Equal(t, want.text, got)
			require.Equal(t, want.err, err)
		}
	})
}

func TestPlayerPauses(t *testing.T) {
	inBubble(t, interruption(Pause), func(t *testing.T, p *Player) {
		require.NoError(t, p.SetReadDeadline(time.Now().Add(time.Hour)))
		got, err := p.readString(9)
		require.NoError(t, err)
		require.Equal(t, "ab", got)

		start := time.Now()
		_, err = p.readString(9)
		require.True(t, isTimeout(err), "%v", err)
		require.Equal(t, time.Hour, time.Since(start))
		_, err = p.readString(9)
		require.True(t, isTimeout(err), "the deadline has still passed")

		require.NoError(t, p.SetReadDeadline(time.Time{}))
		got, err = p.readString(9)
		require.NoError(t, err)
		require.Equal(t, "cd", got)
		require.Equal(t, time.Hour, time.Since(start))
		_, err = p.readString(9)
		require.Equal(t, io.EOF, err)
	})
}

func TestPlayerPausesForADayAtMost(t *testing.T) {
	inBubble(t, interruption(Pause), func(t *testing.T, p *Player) {
		p.readString(9)
		start := time.Now()
		got, err := p.readString(9)
		require.NoError(t, err)
		require.Equal(t, "cd", got)
		require.Equal(t, 24*time.Hour, time.Since(start))
	})
}

func TestPlayerPausesForALongDeadline(t *testing.T) {
	inBubble(t, interruption(Pause), func(t *testing.T, p *Player) {
		p.readString(9)
		start := time.Now()
		require.NoError(t, p.SetReadDeadline(start.Add(72*time.Hour)))
		_, err := p.readString(9)
		require.True(t, isTimeout(err), "%v", err)
		require.Equal(t, 72*time.Hour, time.Since(start))
	})
}

// Nor does it end early when another deadline is set on the way.
func TestPlayerPausesForALaterDeadline(t *testing.T) {
	inBubble(t, interruption(Pause), func(t *testing.T, p *Player) {
		p.readString(9)
		start := time.Now()
		require.NoError(t, p.SetReadDeadline(start.Add(72*time.Hour)))
		time.AfterFunc(30*time.Hour, func() { p.SetReadDeadline(start.Add(96 * time.Hour)) })
		_, err := p.readString(9)
		require.True(t, isTimeout(err), "%v", err)
		require.Equal(t, 96*time.Hour, time.Since(start))
	})
}

// A deadline that passes while nobody is in the pause does not end it.
func TestPlayerPausesAfterEarlierDeadlines(t *testing.T) {
	inBubble(t, interruption(Pause), func(t *testing.T, p *Player) {
		require.NoError(t, p.SetReadDeadline(time.Now()))
		_, err := p.readString(9)
		require.True(t, isTimeout(err))
		require.NoError(t, p.SetReadDeadline(time.Now().Add(time.Hour)))
		got, err := p.readString(9)
		require.NoError(t, err)
		require.Equal(t, "ab", got)
		_, err = p.readString(9)
		require.True(t, isTimeout(err))
	})
}

func TestPlayerWakesBlockedReads(t *testing.T) {
	for name, c := range map[string]struct {
		wake func(p *Player)
		is   func(err error) bool
	}{
		"Close":           {func(p *Player) { p.Close() }, func(err error) bool { return errors.Is(err, net.ErrClosed) }},
		"CloseRead":       {func(p *Player) { p.CloseRead() }, func(err error) bool { return err == io.EOF }},
		"SetReadDeadline": {func(p *Player) { p.SetReadDeadline(time.Now()) }, isTimeout},
		"SetDeadline":     {func(p *Player) { p.SetDeadline(time.Now()) }, isTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, interruption(Pause), func(t *testing.T, p *Player) {
				p.readString(9)
				require.NoError(t, p.SetReadDeadline(time.Now().Add(time.Hour)))
				start := time.Now()
				var reading sync.WaitGroup
				for range 2 {
					reading.Go(func() {
						_, err := p.readString(9)
						if !c.is(err) {
							t.Errorf("%v", err)
						}
					})
				}
				synctest.Wait()
				c.wake(p)
				reading.Wait()
				require.Zero(t, time.Since(start))
			})
		})
	}
}

// A deadline that is lifted while a Read waits for it holds no more.
func TestPlayerLiftsDeadlinesOfBlockedReads(t *testing.T) {
	inBubble(t, interruption(Pause), func(t *testing.T, p *Player) {
		p.readString(9)
		start := time.Now()
		require.NoError(t, p.SetReadDeadline(start.Add(time.Hour)))
		time.AfterFunc(time.Minute, func() { p.SetReadDeadline(time.Time{}) })
		got, err := p.readString(9)
		require.NoError(t, err)
		require.Equal(t, "cd", got)
		require.Equal(t, 24*time.Hour, time.Since(start))
	})
}

func TestPlayerTellsOfAResetOnce(t *testing.T) {
	inBubble(t, interruption(Reset), func(t *testing.T, p *Player) {
		_, err := p.Write([]byte("x"))
		require.NoError(t, err)
		p.readString(9)
		_, err = p.readString(9)
		require.ErrorIs(t, err, ErrReset)
		require.ErrorIs(t, err, errReset)
		require.IsType(t, (*os.SyscallError)(nil), errors.Unwrap(err))
		require.EqualError(t, err, "read tcp 192.0.2.2:5678->192.0.2.1:1234: read: "+errReset.Error())
		for range 2 {
			_, err = p.readString(9)
			require.Equal(t, io.EOF, err)
			_, err = p.Write([]byte("x"))
			require.ErrorIs(t, err, errBrokenPipe)
		}
	})
}

func TestPlayerEnds(t *testing.T) {
	inBubble(t, interruption(End), func(t *testing.T, p *Player) {
		require.Equal(t, 2, p.Place())
		p.readString(9)
		_, err := p.readString(9)
		require.Equal(t, io.EOF, err)
		_, err = p.Write([]byte("x"))
		require.NoError(t, err, "the peer still reads")
	})
}

func TestPlayerKeepsWhatIsSent(t *testing.T) {
	inBubble(t, pieces("abc"), func(t *testing.T, p *Player) {
		require.Equal(t, 3, p.Place())
		require.Empty(t, p.Sent())
		data := []byte("12")
		n, err := p.Write(data)
		require.NoError(t, err)
		require.Equal(t, 2, n)
		data[0] = 'x'
		p.Write([]byte("3"))
		p.SetWriteDeadline(time.Now())
		p.Write([]byte("4"))
		p.SetWriteDeadline(time.Time{})
		p.CloseWrite()
		p.Write([]byte("5"))
		p.Close()
		require.Equal(t, "123", string(p.Sent()))
		p.Sent()[0] = 'x'
		require.Equal(t, "123", string(p.Sent()))
	})
}
