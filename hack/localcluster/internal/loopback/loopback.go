// Package loopback hands out TCP ports of 127.0.0.1 to programs that are started with a port number.
//
// A Port is held against every other user of this package on the machine (in the same network namespace) from
// Reserve or Pick until Release or the end of the process, also while nothing listens on it: a server that is taken
// down for a while finds its port free. The hold is a Linux abstract Unix socket named after the port, so that no
// file stays behind. Programs that know nothing of it can still take the port; Pick therefore stays out of the range
// from which the kernel gives ports to outgoing connections.
package loopback

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
)

const (
	address = "127.0.0.1"

	// Pick chooses from [pickFrom, pickBelow): above the ports of well-known services, below the range that Linux
	// gives to outgoing connections by default (32768 and up).
	pickFrom  = 20000
	pickBelow = 32768

	maxPicks = 200

	ephemeralRangeFile = "/proc/sys/net/ipv4/ip_local_port_range"
)

// ErrPortInUse is wrapped by the error of Reserve for a port that somebody holds or listens on.
var ErrPortInUse = errors.New("port is in use")

// Port is a reserved port. Its methods are safe for concurrent use.
type Port struct {
	number int
	hold   net.Listener
}

// Reserve takes the given port.
func Reserve(number int) (*Port, error) {
	if number < 1 || number > 65535 {
		return nil, fmt.Errorf("reserve port %d: not between 1 and 65535", number)
	}
	hold, err := net.Listen("unix", "@cloudcore-localcluster-port-"+strconv.Itoa(number))
	if err != nil {
		return nil, fmt.Errorf("reserve %s:%d: %w", address, number, ErrPortInUse)
	}
	p := &Port{number: number, hold: hold}
	probe, err := net.Listen("tcp4", p.Address())
	if err != nil {
		p.Release()
		return nil, fmt.Errorf("reserve %s:%d: %w (%w)", address, number, ErrPortInUse, err)
	}
	if err := probe.Close(); err != nil {
		p.Release()
		return nil, fmt.Errorf("reserve %s:%d: %w", address, number, err)
	}
	return p, nil
}

// Pick reserves any free port.
func Pick() (*Port, error) {
	return pick(pickFrom, min(pickBelow, ephemeralStart()))
}

func pick(from, below int) (*Port, error) {
	if below <= from {
		return pickEphemeral()
	}
	var last error
	for range maxPicks {
		p, err := Reserve(from + rand.IntN(below-from))
		if err == nil {
			return p, nil
		}
		last = err
	}
	return nil, fmt.Errorf("find a free port between %d and %d: %w", from, below-1, last)
}

// pickEphemeral serves machines whose outgoing connections use the whole range.
func pickEphemeral() (*Port, error) {
	var last error
	for range maxPicks {
		probe, err := net.Listen("tcp4", address+":0")
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		number := probe.Addr().(*net.TCPAddr).Port
		if err := probe.Close(); err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		p, err := Reserve(number)
		if err == nil {
			return p, nil
		}
		last = err
	}
	return nil, fmt.Errorf("find a free port: %w", last)
}

// ephemeralStart returns the first port that outgoing connections may get.
func ephemeralStart() int {
	var first, end int
	data, err := os.ReadFile(ephemeralRangeFile)
	if err != nil {
		return pickBelow
	}
	if _, err := fmt.Sscan(string(data), &first, &end); err != nil {
		return pickBelow
	}
	return first
}

// Number returns the port number.
func (p *Port) Number() int { return p.number }

// Address returns host:port.
func (p *Port) Address() string { return net.JoinHostPort(address, strconv.Itoa(p.number)) }

// Release gives the port back.
func (p *Port) Release() {
	// Closing only fails for a port that was released before.
	_ = p.hold.Close()
}
