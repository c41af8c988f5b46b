package edgesim

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// tcpPair returns both ends of a connection on loopback.
func tcpPair(t *testing.T) (near *gatedConn, far net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	raw, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if far, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = raw.Close(); _ = far.Close() })
	return newGatedConn(raw, newGate()), far
}

func TestCut(t *testing.T) {
	for _, tc := range []struct {
		name string
		how  Cut
		want error // what the peer reads
	}{{"close", CutClose, io.EOF}, {"reset", CutReset, syscall.ECONNRESET}, {"silent", CutSilent, os.ErrDeadlineExceeded}} {
		t.Run(tc.name, func(t *testing.T) {
			near, far := tcpPair(t)
			err := near.cut(tc.how)
			if tc.how == CutSilent && errors.Is(err, syscall.EPERM) {
				tc.want = os.ErrDeadlineExceeded // refused without the capability, and nothing was closed
			} else if err != nil {
				t.Fatal(err)
			}
			if err := far.SetReadDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
				t.Fatal(err)
			}
			if _, err := far.Read(make([]byte, 1)); !errors.Is(err, tc.want) {
				t.Errorf("the peer reads %v, want %v", err, tc.want)
			}
		})
	}
}

func TestGate(t *testing.T) {
	near, far := tcpPair(t)
	near.gate.set(true, true)
	if n, err := near.Write([]byte("lost")); n != 4 || err != nil {
		t.Errorf("discarded write: %d, %v", n, err)
	}
	got := make(chan string, 1)
	go func() {
		b := make([]byte, 8)
		n, err := near.Read(b)
		if err != nil {
			b, n = []byte(err.Error()), len(err.Error())
		}
		got <- string(b[:n])
	}()
	if _, err := far.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	select {
	case s := <-got:
		t.Fatalf("read %q through a shut gate", s)
	case <-time.After(20 * time.Millisecond):
	}
	near.gate.set(true, false) // shut stays shut
	near.gate.set(false, false)
	if s := <-got; s != "hello" {
		t.Errorf("read %q after the gate opened", s)
	}
	near.gate.set(true, false)
	go func() {
		_, err := near.Read(make([]byte, 1))
		got <- err.Error()
	}()
	near.interrupt()
	if s := <-got; s != net.ErrClosed.Error() {
		t.Errorf("interrupted read ends with %s", s)
	}
}
