package interop_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// webServers start a web server that passes all requests on to an application
// by SCGI, and return its URL. What is sent to /stream is passed on as it comes;
// otherwise a server may wait until it has all of it.
var webServers = map[string]func(t *testing.T, app string) (url string){
	"nginx": startNginx, "lighttpd": startLighttpd,
}

func startNginx(t *testing.T, app string) string {
	t.Helper()
	nginx, dir, addr := program(t, "nginx", "nginx"), t.TempDir(), freeAddr(t)
	writeFile(t, dir, "params", `
scgi_param SCGI 1;
scgi_param REQUEST_METHOD $request_method;
scgi_param REQUEST_URI $request_uri;
scgi_param CONTENT_TYPE $content_type;
`)
	config := writeFile(t, dir, "nginx.conf", `
daemon off;
master_process off;
pid nginx.pid;
events { worker_connections 256; }
http {
	access_log off;
	client_max_body_size 0;
	client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
	uwsgi_temp_path uwsgi; scgi_temp_path scgi;
	server {
		listen `+addr+`;
		location / {
			include params;
			scgi_pass `+app+`;
		}
		location /stream {
			include params;
			scgi_pass `+app+`;
			scgi_request_buffering off;
			# nginx itself counts what it has received so far.
			scgi_param CONTENT_LENGTH $content_length;
		}
	}
}
`)
	p := start(t, nginx, "-p", dir, "-c", config, "-e", "stderr")
	p.waitListen(t, "tcp", addr)
	return "http://" + addr + "/"
}

func startLighttpd(t *testing.T, app string) string {
	t.Helper()
	lighttpd, dir := program(t, "lighttpd", "lighttpd"), t.TempDir()
	appHost, appPort, err := net.SplitHostPort(app)
	require.NoError(t, err)
	port := freePort(t)
	config := writeFile(t, dir, "lighttpd.conf", fmt.Sprintf(`
server.modules = ("mod_scgi")
server.document-root = %[1]q
server.upload-dirs = (%[1]q)
server.bind = "127.0.0.1"
server.port = %[2]d
server.stream-request-body = 2
scgi.server = ("/" => (("host" => %[3]q, "port" => %[4]s, "check-local" => "disable")))
`, dir, port, appHost, appPort))
	p := start(t, lighttpd, "-D", "-f", config)
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	p.waitListen(t, "tcp", addr)
	return "http://" + addr + "/"
}

// testSCGI runs a test with the SCGI example behind each web server.
func testSCGI(t *testing.T, test func(t *testing.T, app *process, url, files string)) {
	t.Parallel()
	for name, startWebServer := range webServers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files := t.TempDir()
			app := startExample(t, "scgi", "-listen", "127.0.0.1:0", "-dir", files, "-max-file", fmt.Sprint(4<<20))
			test(t, app, startWebServer(t, app.addr), files)
		})
	}
}

// randomBytes returns n bytes that are the same each time, and their SHA-256.
func randomBytes(n int) (data []byte, sum string) {
	data = make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{}).Read(data) // never fails
	return data, fmt.Sprintf("%x", sha256.Sum256(data))
}

const octets = "Content-Type: application/octet-stream"

func TestSCGIRequests(t *testing.T) {
	testSCGI(t, func(t *testing.T, app *process, url, files string) {
		curl := program(t, "curl", "curl")
		data, sum := randomBytes(3 << 20)
		file := writeFile(t, t.TempDir(), "data", string(data))
		tooLarge := writeFile(t, t.TempDir(), "large", strings.Repeat("x", 4<<20+1))
		empty := fmt.Sprintf("%x", sha256.Sum256(nil))
		for _, c := range []struct {
			name, want string
			args       []string
		}{
			{"get", "200 Send a form, or a file.\n", []string{url}},
			{"form", "200 a=1&b=2%263&c=a+b&c=%C3%A9\n", []string{url + "f?x=y",
				"-d", "c=a+b", "--data-urlencode", "b=2&3", "-d", "a=1", "--data-urlencode", "c=é"}},
			{"empty form", "200 \n", []string{url, "-d", ""}},
			{"large header", "200 a=1\n", []string{url, "-d", "a=1", "-H", "Cookie: " + strings.Repeat("c", 6000)}},
			{"form too large", "413 too large\n", []string{url, "-d", "a=" + strings.Repeat("x", 100_000)}},
			{"empty file", "201 " + empty + "\n", []string{url, "-H", octets, "-d", ""}},
			{"file", "201 " + sum + "\n", []string{url, "-T", file}},
			{"file, sent on at once", "201 " + sum + "\n", []string{url + "stream", "-H", octets, "--data-binary", "@" + file}},
			{"file too large", "413 too large\n", []string{url, "-T", tooLarge}},
		} {
			args := append([]string{"-sS", "-w", "%{stderr}%{http_code} "}, c.args...)
			got := runProgram(t, "", curl, args...)
			assert.Equal(t, c.want, got.stderr+got.stdout, c.name)
		}
		kept, err := os.ReadFile(filepath.Join(files, sum))
		require.NoError(t, err)
		assert.True(t, bytes.Equal(data, kept), "the file is not what was sent")
		assert.ElementsMatch(t, []string{empty, sum}, namesIn(t, files))
		app.interrupt(t)
		assert.NoError(t, app.wait(t))
	})
}

// namesIn returns the names of the files in a directory.
func namesIn(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// A client that keeps its connection to the web server gets each answer, and
// no part of another.
func TestSCGIKeepAlive(t *testing.T) {
	testSCGI(t, func(t *testing.T, app *process, url, files string) {
		curl := program(t, "curl", "curl")
		var args []string
		want := ""
		for i := range 50 {
			args = append(args, "-sS", "-d", fmt.Sprintf("n=%d", i), "-w", "%{num_connects}\n", url, "--next")
			want += fmt.Sprintf("n=%d\n%d\n", i, max(0, 1-i)) // the first connects, the others do not
		}
		got := runProgram(t, "", curl, args[:len(args)-1]...)
		assert.Equal(t, result{stdout: want}, got)
	})
}

// waitUpload waits until a part of an upload has reached the application.
func waitUpload(t *testing.T, dir string) {
	t.Helper()
	require.Eventually(t, func() bool {
		uploads, _ := filepath.Glob(filepath.Join(dir, "upload-*"))
		if len(uploads) != 1 {
			return false
		}
		info, err := os.Stat(uploads[0])
		return err == nil && info.Size() > 0
	}, patience, 5*time.Millisecond)
}

func TestSCGIClientGoesAway(t *testing.T) {
	testSCGI(t, func(t *testing.T, app *process, url, files string) {
		curl := program(t, "curl", "curl")
		data, sum := randomBytes(3 << 20)
		file := writeFile(t, t.TempDir(), "data", string(data))
		gone := start(t, curl, "-sS", "--limit-rate", "200K", "-T", file, url+"stream")
		waitUpload(t, files)
		gone.terminate(t)
		app.waitOutput(t, `file not kept.* of 3145728 bytes`)
		assert.Empty(t, namesIn(t, files))

		assert.Equal(t, result{stdout: sum + "\n"}, runProgram(t, "", curl, "-sS", "-T", file, url))
		assert.Equal(t, []string{sum}, namesIn(t, files))
	})
}

// A request that is under way on SIGINT is answered.
func TestSCGIShutdown(t *testing.T) {
	testSCGI(t, func(t *testing.T, app *process, url, files string) {
		data, sum := randomBytes(1 << 20)
		body, input := io.Pipe()
		req, err := http.NewRequest(http.MethodPut, url+"stream", body)
		require.NoError(t, err)
		req.ContentLength = int64(len(data))
		client := &http.Client{Transport: &http.Transport{}, Timeout: patience}
		defer client.CloseIdleConnections()
		answer := goDo(func() (string, error) {
			resp, err := client.Do(req)
			if err != nil {
				return "", err
			}
			defer resp.Body.Close()
			text, err := io.ReadAll(resp.Body)
			return resp.Status + "\n" + string(text), err
		})
		_, err = input.Write(data[:len(data)/2])
		require.NoError(t, err)
		waitUpload(t, files)

		app.interrupt(t)
		app.waitOutput(t, "shutting down")
		_, err = net.Dial("tcp", app.addr)
		assert.Error(t, err, "still accepts connections")
		_, err = input.Write(data[len(data)/2:])
		require.NoError(t, err)
		require.NoError(t, input.Close())
		assert.Equal(t, "201 Created\n"+sum+"\n", await(t, answer))
		assert.NoError(t, app.wait(t))
	})
}

// startHastyApp starts an application that answers without reading the body of
// a request, and then ends the connection.
func startHastyApp(t *testing.T, end func(s *bufsock.BufferedSocket) error) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var serving sync.WaitGroup
	t.Cleanup(serving.Wait)
	t.Cleanup(func() { l.Close() })
	serve := func(conn net.Conn) {
		s := bufsock.NewBufferedSocket(conn, bufsock.WithTimeout(patience), bufsock.WithMaxSize(64<<10))
		defer s.Close()
		if _, err := bufsock.NewNetstringSocket(s).ReadNetstring(); err != nil {
			return // the web server is trying whether somebody is there
		}
		assert.NoError(t, s.Buffer([]byte("Status: 200 OK\r\nContent-Type: text/plain\r\n\r\nearly\n")))
		assert.NoError(t, end(s))
	}
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { serve(conn) })
		}
	})
	return l.Addr().String()
}

// uploadTo sends 3 MB to a web server 20 times and returns what came where that
// was not the answer of the application.
func uploadTo(t *testing.T, url string) (failed []result) {
	t.Helper()
	curl := program(t, "curl", "curl")
	data, _ := randomBytes(3 << 20)
	file := writeFile(t, t.TempDir(), "data", string(data))
	for range 20 {
		got := runProgram(t, "", curl, "-sS", "-w", "%{http_code}", "-H", octets, "--data-binary", "@"+file, url)
		if got != (result{stdout: "early\n200"}) {
			failed = append(failed, got)
		}
	}
	return failed
}

// An answer that is given before the body has been read arrives, if Shutdown
// ends the connection.
func TestSCGIAnswersEarly(t *testing.T) {
	t.Parallel()
	for name, startWebServer := range webServers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			app := startHastyApp(t, func(s *bufsock.BufferedSocket) error { return s.Shutdown() })
			assert.Empty(t, uploadTo(t, startWebServer(t, app)))
		})
	}
	// What Shutdown is for.
	t.Run("nginx, Close", func(t *testing.T) {
		t.Parallel()
		app := startHastyApp(t, func(s *bufsock.BufferedSocket) error {
			err := s.Flush()
			return errors.Join(err, s.Close())
		})
		failed := uploadTo(t, startNginx(t, app))
		assert.NotEmpty(t, failed)
		t.Logf("%d of 20 answers lost", len(failed))
	})
}

// A large upload takes no more memory than a small one.
func TestSCGIMemory(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("reads the memory of a process from /proc")
	}
	const size, most = 64 << 20, 40 << 20
	curl := program(t, "curl", "curl")
	app := startExample(t, "scgi", "-listen", "127.0.0.1:0", "-dir", t.TempDir())
	url := startNginx(t, app.addr)
	file := writeFile(t, t.TempDir(), "zeros", "")
	require.NoError(t, os.Truncate(file, size))

	got := runProgram(t, "", curl, "-sS", "-w", "%{http_code}", "-o", os.DevNull, "-T", file, url)
	require.Equal(t, result{stdout: "201"}, got)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", app.cmd.Process.Pid))
	require.NoError(t, err)
	peak := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(status)
	require.NotNil(t, peak, "%s", status)
	kib, err := strconv.Atoi(string(peak[1]))
	require.NoError(t, err)
	assert.Less(t, kib<<10, most)
}
