package app

import (
	"errors"
	"fmt"
	"net"
)

// What a service tells systemd (sd_notify protocol).
const (
	systemdReady    = "READY=1"
	systemdStopping = "STOPPING=1"
)

// notifySystemd sends a state to the socket that systemd names in NOTIFY_SOCKET; without one there is nobody to tell.
// A leading @ means the abstract name space, which the net package reads the same way.
func notifySystemd(socket, state string) error {
	if socket == "" {
		return nil
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("tell systemd %s: %w", state, err)
	}
	_, err = c.Write([]byte(state))
	if err = errors.Join(err, c.Close()); err != nil {
		return fmt.Errorf("tell systemd %s: %w", state, err)
	}
	return nil
}
