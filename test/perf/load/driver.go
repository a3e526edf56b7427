package load

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Driver sends reviews as an API server does, over TLS with HTTP/1.1 on connections that stay, and cheaper: requests are
// encoded beforehand, and of answers only what is needed is read. It stands on the same processors as who answers.
type Driver struct {
	address  string
	requests [][]byte
}

// NewDriver returns a driver of reviews, each with the path to send it to.
func NewDriver(address string, reviews []Review) *Driver {
	d := &Driver{address: address}
	for _, r := range reviews {
		head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s\r\nAccept: application/json\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", r.Path, address, len(r.Body))
		d.requests = append(d.requests, append([]byte(head), r.Body...))
	}
	return d
}

// Review is a review in JSON and the path of the hook that it is for.
type Review struct {
	Path string
	Body []byte
}

// Load is what became of requests.
type Load struct {
	Answers int
	Rate    float64 // answers a second
	P50     time.Duration
	P99     time.Duration
}

// Run keeps a number of connections busy for a time: each sends the next request when it has its answer. Every answer must
// be an allow.
func (d *Driver) Run(connections int, duration time.Duration) (Load, error) {
	took, errs := make([][]time.Duration, connections), make([]error, connections)
	clients := make([]*client, connections)
	for i := range clients {
		var err error
		if clients[i], err = d.dial(); err != nil {
			return Load{}, err
		}
		defer clients[i].conn.Close()
	}
	var all sync.WaitGroup
	start := time.Now()
	for i := range clients {
		all.Go(func() {
			for n := i; time.Since(start) < duration; n += connections {
				began := time.Now()
				if errs[i] = clients[i].ask(d.requests[n%len(d.requests)]); errs[i] != nil {
					return
				}
				took[i] = append(took[i], time.Since(began))
			}
		})
	}
	all.Wait()
	elapsed := time.Since(start)
	sorted := slices.Concat(took...)
	slices.Sort(sorted)
	if err := errors.Join(errs...); err != nil || len(sorted) == 0 {
		return Load{}, errors.Join(err, fmt.Errorf("%d answers", len(sorted)))
	}
	return Load{
		Answers: len(sorted), Rate: float64(len(sorted)) / elapsed.Seconds(), P50: sorted[len(sorted)/2], P99: sorted[len(sorted)*99/100],
	}, nil
}

type client struct {
	conn net.Conn
	in   *bufio.Reader
	body []byte
}

func (d *Driver) dial() (*client, error) {
	// Whom it trusts is not what is measured.
	conn, err := tls.Dial("tcp", d.address, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"}})
	if err != nil {
		return nil, err
	}
	return &client{conn: conn, in: bufio.NewReader(conn)}, nil
}

// ask sends a request and reads its answer.
func (c *client) ask(request []byte) error {
	if _, err := c.conn.Write(request); err != nil {
		return err
	}
	status, length, err := head(c.in)
	if err != nil {
		return err
	}
	c.body = slices.Grow(c.body[:0], length)[:length]
	if _, err := io.ReadFull(c.in, c.body); err != nil {
		return err
	}
	if !strings.HasPrefix(status, "HTTP/1.1 200 ") || !bytes.Contains(c.body, []byte(`"allowed":true`)) {
		return fmt.Errorf("%s: %s", strings.TrimSpace(status), c.body)
	}
	return nil
}

// head reads the first line and the headers of a message with a Content-Length.
func head(in *bufio.Reader) (first string, length int, err error) {
	if first, err = in.ReadString('\n'); err != nil {
		return "", 0, err
	}
	length = -1
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return "", 0, err
		}
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			break
		}
		if name, value, _ := bytes.Cut(line, []byte(": ")); string(name) == "Content-Length" {
			if length, err = strconv.Atoi(string(value)); err != nil {
				return "", 0, err
			}
		}
	}
	if length < 0 {
		return "", 0, fmt.Errorf("%s without Content-Length", strings.TrimSpace(first))
	}
	return first, length, nil
}

// Highest finds the highest rate at which 99 in 100 answers come within a time: it doubles the connections until they do
// not.
func (d *Driver) Highest(within, each time.Duration) (best Load, connections int, err error) {
	for n := 1; n <= 512; n *= 2 {
		l, err := d.Run(n, each)
		if err != nil {
			return Load{}, 0, err
		}
		if l.P99 > within {
			break
		}
		if l.Rate > best.Rate {
			best, connections = l, n
		}
	}
	return best, connections, nil
}

// echo answers every request with the same allow, and does nothing else: what a driver reaches with it is its own bound.
func echo(certificate tls.Certificate) (net.Listener, error) {
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS13})
	if err != nil {
		return nil, err
	}
	const body = `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","response":{"uid":"","allowed":true}}`
	response := fmt.Appendf(nil, "HTTP/1.1 %d OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", http.StatusOK, len(body), body)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				in := bufio.NewReader(conn)
				for {
					_, length, err := head(in)
					if err != nil {
						return
					}
					if _, err := in.Discard(length); err != nil {
						return
					}
					if _, err := conn.Write(response); err != nil {
						return
					}
				}
			}()
		}
	}()
	return listener, nil
}
