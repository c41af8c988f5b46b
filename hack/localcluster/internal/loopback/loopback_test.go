package loopback

import (
	"errors"
	"net"
	"testing"
)

func reserve(t *testing.T, number int) *Port {
	t.Helper()
	p, err := Reserve(number)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Release)
	return p
}

func pickPort(t *testing.T) *Port {
	t.Helper()
	p, err := Pick()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Release)
	return p
}

func TestReserveRefusesBadNumbers(t *testing.T) {
	for _, number := range []int{-1, 0, 65536} {
		if p, err := Reserve(number); err == nil {
			p.Release()
			t.Errorf("Reserve(%d) succeeded", number)
		}
	}
}

func TestReserveRefusesPortThatSomebodyListensOn(t *testing.T) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	number := listener.Addr().(*net.TCPAddr).Port
	for range 2 { // a refusal must not leave a hold behind
		if _, err := Reserve(number); !errors.Is(err, ErrPortInUse) {
			t.Fatalf("Reserve(%d): got %v, want ErrPortInUse", number, err)
		}
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	reserve(t, number)
}

func TestPortIsHeldUntilReleased(t *testing.T) {
	p := pickPort(t)
	if _, err := Reserve(p.Number()); !errors.Is(err, ErrPortInUse) {
		t.Errorf("second reservation: got %v, want ErrPortInUse", err)
	}
	// The holder's server can come and go.
	for range 2 {
		listener, err := net.Listen("tcp4", p.Address())
		if err != nil {
			t.Fatalf("listen on a reserved port: %v", err)
		}
		if err := listener.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if conn, err := net.Dial("tcp4", p.Address()); err == nil {
		_ = conn.Close()
		t.Error("something answers on a port that is only reserved")
	}
	p.Release()
	reserve(t, p.Number())
}

func TestPickStaysOutOfTheRangeOfOutgoingConnections(t *testing.T) {
	seen := map[int]bool{}
	for range 50 {
		p := pickPort(t)
		if seen[p.Number()] {
			t.Fatalf("port %d was given out twice", p.Number())
		}
		seen[p.Number()] = true
		if start := ephemeralStart(); start > pickFrom && p.Number() >= start {
			t.Errorf("port %d is in the range from %d", p.Number(), start)
		}
	}
}

func TestPickGivesUpWhenAllAreTaken(t *testing.T) {
	p := pickPort(t)
	if _, err := pick(p.Number(), p.Number()+1); !errors.Is(err, ErrPortInUse) {
		t.Errorf("got %v, want ErrPortInUse", err)
	}
}

func TestPickWithoutARangeOfItsOwn(t *testing.T) {
	p, err := pick(pickFrom, pickFrom)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Release()
	if _, err := Reserve(p.Number()); !errors.Is(err, ErrPortInUse) {
		t.Errorf("second reservation: got %v, want ErrPortInUse", err)
	}
}
