package csisocket

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path"
	"strings"
	"time"

	"github.com/cloudcore-io/cloudcore/pkg/message"
)

// Config of the socket. Zero means the default that is named at the field.
type Config struct {
	// Address is unix:///path/of/the.sock, or tcp://127.0.0.1:port. Nothing protects a TCP port, therefore only
	// loopback addresses are accepted.
	Address string

	// RequestTimeout bounds the wait for the node, 60 s; the edge itself gives up after 60 s.
	RequestTimeout time.Duration
	// IOTimeout bounds reading a request, and writing an answer, 10 s each.
	IOTimeout time.Duration
	// MaxRequest is the size of the largest request, 1 MiB.
	MaxRequest int64
	// MaxConnections at once, 64.
	MaxConnections int
}

// Requester sends a message to a connected node and waits for the message that answers it: the one whose parent id is
// the id of msg. It returns when ctx ends, and fails at once when the node is not connected. It keeps msg.
type Requester interface {
	Request(ctx context.Context, node string, msg *message.Message) (*message.Message, error)
}

// endpoint is a parsed address: network is unix or tcp.
type endpoint struct{ network, address string }

// maxSocketPath is what fits into a unix socket address on Linux, with the suffix that the socket has while it is made.
const maxSocketPath = 107 - len(newSuffix)

func (c Config) complete() (Config, endpoint, error) {
	if c.RequestTimeout == 0 {
		c.RequestTimeout = time.Minute
	}
	if c.IOTimeout == 0 {
		c.IOTimeout = 10 * time.Second
	}
	if c.MaxRequest == 0 {
		c.MaxRequest = 1 << 20
	}
	if c.MaxConnections == 0 {
		c.MaxConnections = 64
	}
	if c.RequestTimeout < 0 || c.IOTimeout < 0 || c.MaxRequest < 0 || c.MaxConnections < 0 {
		return Config{}, endpoint{}, errors.New("a bound of the CSI socket is negative")
	}
	e, err := parseAddress(c.Address)
	if err != nil {
		return Config{}, endpoint{}, fmt.Errorf("address %q of the CSI socket: %w", c.Address, err)
	}
	return c, e, nil
}

// parseAddress makes a unix path absolute, as the reference does: unix://var/x is /var/x.
func parseAddress(address string) (endpoint, error) {
	scheme, rest, ok := strings.Cut(address, "://")
	if !ok || rest == "" {
		return endpoint{}, errors.New("want unix:// and a path, or tcp:// and host:port")
	}
	switch strings.ToLower(scheme) {
	case "unix":
		if strings.HasSuffix(rest, "/") || strings.ContainsRune(rest, 0) {
			return endpoint{}, errors.New("the path does not name a file")
		}
		file := path.Clean("/" + rest)
		if len(file) > maxSocketPath {
			return endpoint{}, fmt.Errorf("the path is longer than %d bytes", maxSocketPath)
		}
		return endpoint{"unix", file}, nil
	case "tcp":
		addr, err := netip.ParseAddrPort(rest)
		if err != nil || !addr.Addr().Unmap().IsLoopback() {
			return endpoint{}, errors.New("a TCP address must be a loopback IP and a port")
		}
		return endpoint{"tcp", rest}, nil
	default:
		return endpoint{}, fmt.Errorf("scheme %q is neither unix nor tcp", scheme)
	}
}
