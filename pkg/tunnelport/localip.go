package tunnelport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/klog/v2"
)

// resolveTimeout bounds the name lookup: a host without DNS must not hold up the start.
const resolveTimeout = 5 * time.Second

// LocalIP returns the address of this host (of the pod, without host network): that of the
// interface of the default route, IPv4 before IPv6, else the first address that the host name
// resolves to and that this host really has. The error says what was tried.
func LocalIP(ctx context.Context) (net.IP, error) {
	return localIP(ctx, host{
		defaultRoute: func() (net.IP, error) { return utilnet.ChooseHostInterfaceWithLogger(klog.FromContext(ctx)) },
		hostname:     os.Hostname,
		resolve: func(ctx context.Context, name string) ([]net.IP, error) {
			return net.DefaultResolver.LookupIP(ctx, "ip", name)
		},
		addresses: net.InterfaceAddrs,
	})
}

// host is what localIP asks of the machine.
type host struct {
	defaultRoute func() (net.IP, error)
	hostname     func() (string, error)
	resolve      func(ctx context.Context, name string) ([]net.IP, error)
	addresses    func() ([]net.Addr, error)
}

func localIP(ctx context.Context, h host) (net.IP, error) {
	ip, routeErr := h.defaultRoute()
	if routeErr == nil && ip != nil {
		return ip, nil
	}
	if routeErr == nil {
		routeErr = errors.New("no default route with a usable address")
	}
	ip, nameErr := byName(ctx, h)
	if nameErr != nil {
		return nil, fmt.Errorf("detect the address of this host: by default route: %w; by host name: %w", routeErr, nameErr)
	}
	return ip, nil
}

func byName(ctx context.Context, h host) (net.IP, error) {
	name, err := h.hostname()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	candidates, err := h.resolve(ctx, name)
	if err != nil {
		return nil, err
	}
	own, err := h.addresses()
	if err != nil {
		return nil, err
	}
	for _, ip := range candidates {
		if ip.IsGlobalUnicast() && assigned(ip, own) {
			return ip, nil
		}
	}
	return nil, fmt.Errorf("%s resolves to no address of this host", name)
}

func assigned(ip net.IP, addresses []net.Addr) bool {
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok && n.IP.Equal(ip) {
			return true
		}
	}
	return false
}
