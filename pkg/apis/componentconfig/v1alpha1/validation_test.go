package v1alpha1

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// streaming turns cloudStream on with files that exist.
func streaming(t *testing.T) func(*CloudCoreConfig) {
	file := filepath.Join(t.TempDir(), "file.pem")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return func(c *CloudCoreConfig) {
		s := &c.Modules.CloudStream
		s.Enable = true
		for _, f := range []*string{&s.TLSStreamCAFile, &s.TLSStreamCertFile, &s.TLSStreamPrivateKeyFile, &s.TLSTunnelCAFile, &s.TLSTunnelCertFile, &s.TLSTunnelPrivateKeyFile} {
			*f = file
		}
	}
}

func TestSpec01Check08_EachRuleAlone(t *testing.T) {
	stream := streaming(t)
	for _, tc := range []struct {
		name   string
		change func(*CloudCoreConfig)
		want   []string
	}{
		{"defaults", func(*CloudCoreConfig) {}, nil},
		{"kubeConfig relative", func(c *CloudCoreConfig) { c.KubeAPIConfig.KubeConfig = "no/such" }, []string{
			`kubeAPIConfig.kubeConfig: Invalid value: "no/such": must be an absolute path`,
			`kubeAPIConfig.kubeConfig: Invalid value: "no/such": file does not exist`}},
		{"kubeConfig missing", func(c *CloudCoreConfig) { c.KubeAPIConfig.KubeConfig = "/no/such" }, []string{
			`kubeAPIConfig.kubeConfig: Invalid value: "/no/such": file does not exist`}},
		{"monitor without port", bind("127.0.0.1"), []string{`commonConfig.monitorServer.bindAddress: Invalid value: "127.0.0.1": must be IP:port`}},
		{"monitor by name", bind("localhost:9091"), []string{`commonConfig.monitorServer.bindAddress: Invalid value: "localhost:9091": must be a valid IP`}},
		{"monitor without host", bind(":9091"), []string{`commonConfig.monitorServer.bindAddress: Invalid value: ":9091": must be a valid IP`}},
		{"monitor on port 0", bind("127.0.0.1:0"), []string{`commonConfig.monitorServer.bindAddress: Invalid value: "127.0.0.1:0": must be a valid port`}},
		{"monitor on port 65536", bind("127.0.0.1:65536"), []string{`commonConfig.monitorServer.bindAddress: Invalid value: "127.0.0.1:65536": must be a valid port`}},
		{"monitor on a named port", bind("127.0.0.1:http"), []string{`commonConfig.monitorServer.bindAddress: Invalid value: "127.0.0.1:http": must be a valid port`}},
		{"monitor on all addresses", bind("0.0.0.0:9091"), nil},
		{"monitor on IPv6", bind("[::1]:9091"), nil},
		{"monitor with leading zeros", bind("127.000.0.01:9091"), nil},
		{"monitor off", bind(""), nil},
		{"https port", func(c *CloudCoreConfig) { c.Modules.CloudHub.HTTPS.Port = 0 }, []string{`modules.cloudHub.https.port: Invalid value: 0: must be between 1 and 65535, inclusive`}},
		{"https address is free", func(c *CloudCoreConfig) { c.Modules.CloudHub.HTTPS.Address = "hub.example" }, nil},
		{"websocket port", func(c *CloudCoreConfig) { c.Modules.CloudHub.WebSocket.Port = 65536 }, []string{`modules.cloudHub.websocket.port: Invalid value: 65536: must be between 1 and 65535, inclusive`}},
		{"websocket port when off", func(c *CloudCoreConfig) {
			c.Modules.CloudHub.WebSocket.Port, c.Modules.CloudHub.WebSocket.Enable = 0, false
		}, []string{`modules.cloudHub.websocket.port: Invalid value: 0: must be between 1 and 65535, inclusive`}},
		{"websocket address", func(c *CloudCoreConfig) { c.Modules.CloudHub.WebSocket.Address = "localhost" }, []string{`modules.cloudHub.websocket.address: Invalid value: "localhost": must be a valid IP address`}},
		{"quic port when off", func(c *CloudCoreConfig) { c.Modules.CloudHub.Quic.Port = 0 }, []string{`modules.cloudHub.quic.port: Invalid value: 0: must be between 1 and 65535, inclusive`}},
		{"quic address", func(c *CloudCoreConfig) { c.Modules.CloudHub.Quic.Address = "" }, []string{`modules.cloudHub.quic.address: Invalid value: "": must be a valid IP address`}},
		{"socket without scheme", func(c *CloudCoreConfig) { c.Modules.CloudHub.UnixSocket.Address = "/var/lib/kubeedge/kubeedge.sock" }, []string{
			`modules.cloudHub.unixsocket.address: Invalid value: "/var/lib/kubeedge/kubeedge.sock": must have the prefix unix://`}},
		{"socket scheme in capitals", func(c *CloudCoreConfig) { c.Modules.CloudHub.UnixSocket.Address = "UNIX:///x" }, nil},
		{"token period", func(c *CloudCoreConfig) { c.Modules.CloudHub.TokenRefreshDuration = 0 }, []string{`modules.cloudHub.tokenRefreshDuration: Invalid value: 0: must be greater than 0`}},
		{"keepalive", func(c *CloudCoreConfig) { c.Modules.CloudHub.KeepaliveInterval = -1 }, []string{`modules.cloudHub.keepaliveInterval: Invalid value: -1: must be greater than 0`}},
		{"node status period", func(c *CloudCoreConfig) { c.Modules.EdgeController.NodeUpdateFrequency = 0 }, []string{`modules.edgeController.nodeUpdateFrequency: Invalid value: 0: must be greater than 0`}},
		{"stream key", both(stream, func(c *CloudCoreConfig) { c.Modules.CloudStream.TLSStreamPrivateKeyFile = "/no/key" }), []string{`modules.cloudStream.tlsStreamPrivateKeyFile: Invalid value: "/no/key": file does not exist`}},
		{"stream certificate", both(stream, func(c *CloudCoreConfig) { c.Modules.CloudStream.TLSStreamCertFile = "/no/crt" }), []string{`modules.cloudStream.tlsStreamCertFile: Invalid value: "/no/crt": file does not exist`}},
		{"stream CA", both(stream, func(c *CloudCoreConfig) { c.Modules.CloudStream.TLSStreamCAFile = "/no/ca" }), []string{`modules.cloudStream.tlsStreamCAFile: Invalid value: "/no/ca": file does not exist`}},
		{"tunnel files may miss", both(stream, func(c *CloudCoreConfig) { c.Modules.CloudStream.TLSTunnelCAFile = "/no/ca" }), nil},
		{"stream ports", both(stream, func(c *CloudCoreConfig) {
			c.Modules.CloudStream.TunnelPort, c.Modules.CloudStream.StreamPort = 0, 70000
		}), []string{
			`modules.cloudStream.tunnelPort: Invalid value: 0: must be between 1 and 65535, inclusive`,
			`modules.cloudStream.streamPort: Invalid value: 70000: must be between 1 and 65535, inclusive`}},
		{"router port", func(c *CloudCoreConfig) { c.Modules.Router.Enable, c.Modules.Router.Port = true, 0 }, []string{`modules.router.port: Invalid value: 0: must be between 1 and 65535, inclusive`}},
		{"two on one port", func(c *CloudCoreConfig) { c.Modules.CloudHub.WebSocket.Port = 10002 }, []string{
			`modules.cloudHub.websocket.port: Invalid value: 10002: is also the value of modules.cloudHub.https.port, both would listen on it`}},
		{"one port on two addresses", func(c *CloudCoreConfig) {
			h := &c.Modules.CloudHub
			h.WebSocket.Port, h.WebSocket.Address, h.HTTPS.Address = 10002, "192.0.2.1", "192.0.2.2"
		}, nil},
		{"TCP and UDP share a number", func(c *CloudCoreConfig) { c.Modules.CloudHub.Quic.Enable, c.Modules.CloudHub.Quic.Port = true, 10000 }, nil},
		{"router on a stream port", both(stream, func(c *CloudCoreConfig) {
			c.Modules.Router.Enable, c.Modules.Router.Port, c.Modules.Router.Address = true, 10003, "192.0.2.1"
		}), []string{`modules.router.port: Invalid value: 10003: is also the value of modules.cloudStream.streamPort, both would listen on it`}},
		{"what is off isn't looked at", func(c *CloudCoreConfig) {
			m := &c.Modules
			m.CloudHub.Enable, m.EdgeController.Enable = false, false
			m.CloudHub.WebSocket.Port, m.CloudHub.TokenRefreshDuration, m.EdgeController.NodeUpdateFrequency = 0, 0, 0
			m.CloudStream.StreamPort, m.Router.Port = 0, 0
		}, nil},
	} {
		c := Default()
		tc.change(c)
		var got []string
		for _, e := range c.Validate() {
			got = append(got, e.Error())
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s:\n got %q\nwant %q", tc.name, got, tc.want)
		}
	}
}

func TestSpec01Check09_BindAddress(t *testing.T) {
	for address, ok := range map[string]bool{"localhost:9091": false, "0.0.0.0:9091": true} {
		c := Default()
		c.CommonConfig.MonitorServer.BindAddress = address
		if errs := c.Validate(); (len(errs) == 0) != ok {
			t.Errorf("%s: %v", address, errs)
		}
	}
}

func TestSpec01Check08_AllErrorsAtOnce(t *testing.T) {
	c := Default()
	c.KubeAPIConfig.KubeConfig = "x"
	c.CommonConfig.MonitorServer.BindAddress = "x"
	c.Modules.CloudHub.HTTPS.Port = 0
	c.Modules.CloudHub.TokenRefreshDuration = -1
	c.Modules.EdgeController.NodeUpdateFrequency = 0
	c.Modules.CloudStream.Enable = true
	errs := c.Validate()
	if len(errs) != 9 {
		t.Errorf("%d errors, want 9: %v", len(errs), errs)
	}
	if text := errs.ToAggregate().Error(); !strings.HasPrefix(text, "[") || !strings.HasSuffix(text, "]") || strings.Count(text, "Invalid value:") != 9 {
		t.Errorf("text is not a bracketed list of 9: %s", text)
	}
}

func TestValidationChangesNothing(t *testing.T) {
	dir := t.TempDir()
	c := Default()
	c.Modules.CloudHub.UnixSocket.Address = "unix://" + filepath.Join(dir, "sub", "kubeedge.sock")
	before := *c
	if errs := c.Validate(); len(errs) > 0 {
		t.Fatal(errs)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		t.Errorf("directory holds %v, %v; want nothing", entries, err)
	}
	if !reflect.DeepEqual(*c, before) {
		t.Error("the configuration changed")
	}
}

func bind(address string) func(*CloudCoreConfig) {
	return func(c *CloudCoreConfig) { c.CommonConfig.MonitorServer.BindAddress = address }
}

func both(a, b func(*CloudCoreConfig)) func(*CloudCoreConfig) {
	return func(c *CloudCoreConfig) { a(c); b(c) }
}

func TestWarnings(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*CloudCoreConfig)
		want   []string // paths
	}{
		{"defaults", func(*CloudCoreConfig) {}, nil},
		{"chart", func(c *CloudCoreConfig) { c.APIVersion = "cloudcore.config.kubeedge.io/v1alpha2"; c.Kind = "cloudcore" }, nil},
		{"foreign", func(c *CloudCoreConfig) { c.APIVersion, c.Kind = "v1", "ConfigMap" }, []string{"apiVersion", "kind"}},
		{"content type", func(c *CloudCoreConfig) { c.KubeAPIConfig.ContentType = "text/plain" }, []string{"kubeAPIConfig.contentType"}},
		{"hub off", func(c *CloudCoreConfig) { c.Modules.CloudHub.Enable = false; c.Modules.CloudHub.NodeLimit = 0 }, []string{"modules.cloudHub.enable"}},
		{"tunnel files", func(c *CloudCoreConfig) { c.Modules.CloudStream.Enable = true }, []string{
			"modules.cloudStream.tlsTunnelCAFile", "modules.cloudStream.tlsTunnelCertFile", "modules.cloudStream.tlsTunnelPrivateKeyFile"}},
		{"numbers", func(c *CloudCoreConfig) {
			h := &c.Modules.CloudHub
			h.NodeLimit, h.EdgeCertSigningDuration, h.WriteTimeout, h.HTTPS.Enable = -1, 0, 0, false
			h.Quic.Enable, h.Quic.MaxIncomingStreams = true, -1
			h.Authorization.Enable, h.Authorization.Modes = true, nil
			c.Modules.Router.Enable, c.Modules.Router.RestTimeout = true, 0
		}, []string{"modules.cloudHub.nodeLimit", "modules.cloudHub.edgeCertSigningDuration", "modules.cloudHub.writeTimeout",
			"modules.cloudHub.quic.maxIncomingStreams", "modules.cloudHub.https.enable", "modules.cloudHub.authorization.modes", "modules.router.restTimeout"}},
		{"too long", func(c *CloudCoreConfig) {
			c.Modules.CloudHub.EdgeCertSigningDuration, c.Modules.CloudHub.TokenRefreshDuration = 1<<60, 1<<60
		}, []string{"modules.cloudHub.edgeCertSigningDuration", "modules.cloudHub.tokenRefreshDuration"}},
	} {
		c := Default()
		tc.change(c)
		var got []string
		for _, w := range c.Warnings() {
			got = append(got, w.Path)
			if w.Message == "" {
				t.Errorf("%s: %s has no text", tc.name, w.Path)
			}
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s: warnings for %q, want %q", tc.name, got, tc.want)
		}
	}
}

func TestDurationsNeverOverflow(t *testing.T) {
	const day = 24 * time.Hour
	for days, want := range map[int64]time.Duration{365: 365 * day, 0: 365 * day, -5: 365 * day, 1: day, 1 << 62: 36500 * day} {
		if got := (CloudHub{EdgeCertSigningDuration: days}).EdgeCertValidity(); got != want {
			t.Errorf("%d days: %v, want %v", days, got, want)
		}
	}
	for hours, want := range map[int64]time.Duration{12: 12 * time.Hour, 1 << 62: 36500 * day} {
		got := (CloudHub{TokenRefreshDuration: hours}).TokenRefresh()
		if got != want || 2*got < got {
			t.Errorf("%d hours: %v, want %v", hours, got, want)
		}
	}
	if got := (CloudHub{}).WriteDeadline(); got != 30*time.Second {
		t.Errorf("no write timeout: %v", got)
	}
}

func TestDeriveRaisesButNeverLowers(t *testing.T) {
	c := Default()
	c.Modules.CloudHub.NodeLimit = 2000
	c.Modules.EdgeController.Load.CreateLeaseWorkers = 9000
	c.Modules.CloudHub.WebSocket.Address = "010.000.0.1"
	c.CommonConfig.MonitorServer.BindAddress = "127.0.0.001:9091"
	c.Derive()
	l, b := c.Modules.EdgeController.Load, c.Modules.EdgeController.Buffer
	got := []int32{l.QueryNodeWorkers, l.CreateLeaseWorkers, l.PatchNodeWorkers, b.PatchNode, b.QueryNode, b.CreateLease}
	if want := []int32{2000, 9000, 140, 2024, 3024, 3024}; !slices.Equal(got, want) {
		t.Errorf("derived sizes %v, want %v", got, want)
	}
	if a, m := c.Modules.CloudHub.WebSocket.Address, c.CommonConfig.MonitorServer.BindAddress; a != "10.0.0.1" || m != "127.0.0.1:9091" {
		t.Errorf("addresses %q, %q", a, m)
	}
	again := *c
	c.Derive()
	if !reflect.DeepEqual(*c, again) {
		t.Error("deriving twice differs")
	}
}

func TestCleanAddresses(t *testing.T) {
	for _, tc := range []struct {
		name            string
		addresses, dns  []string
		detect          string
		wantIPs, wantNS []string
		warnings        int
		fails           bool
	}{
		{name: "chart default", addresses: []string{""}, dns: []string{""}, detect: "192.0.2.1", wantIPs: []string{"192.0.2.1"}},
		{name: "nothing", detect: "2001:db8::1", wantIPs: []string{"2001:db8::1"}},
		{name: "given", addresses: []string{" 192.0.2.9 ", "192.0.2.9", "2001:DB8::0:1", "010.0.0.1"}, dns: []string{"a.example", "", "a.example"},
			wantIPs: []string{"192.0.2.9", "2001:db8::1", "10.0.0.1"}, wantNS: []string{"a.example"}},
		{name: "failed detection printed by older releases", addresses: []string{"<nil>"}, detect: "192.0.2.1", wantIPs: []string{"192.0.2.1"}, warnings: 1},
		{name: "names among addresses", addresses: []string{"cloud.example", "*.edge.example", "192.0.2.9"}, dns: []string{"b.example"},
			wantIPs: []string{"192.0.2.9"}, wantNS: []string{"b.example", "cloud.example", "*.edge.example"}, warnings: 2},
		{name: "mistyped addresses", addresses: []string{"192.0.2", "192.0.2.300", "192.0.2.1:10000", "192.0.2.0/24", "fe80::1%eth0"}, detect: "192.0.2.1", wantIPs: []string{"192.0.2.1"}, warnings: 5},
		{name: "only names, nothing detected", addresses: []string{"cloud.example"}, wantNS: []string{"cloud.example"}, warnings: 2},
		{name: "odd names that x509 takes", dns: []string{"under_score", "trailing.example.", "192.0.2.1"}, detect: "192.0.2.1", wantIPs: []string{"192.0.2.1"},
			wantNS: []string{"under_score", "trailing.example.", "192.0.2.1"}, warnings: 1},
		{name: "names that x509 refuses", dns: []string{"ümlaut.example", "a b", strings.Repeat("a", 254)}, detect: "192.0.2.1", wantIPs: []string{"192.0.2.1"}, warnings: 3},
		{name: "nothing at all", addresses: []string{"", "<nil>"}, warnings: 1, fails: true},
	} {
		h := CloudHub{Enable: true, AdvertiseAddress: tc.addresses, DNSNames: tc.dns}
		warnings, err := h.CleanAddresses(func() (net.IP, error) {
			if tc.detect == "" {
				return nil, errors.New("no default route")
			}
			return net.ParseIP(tc.detect), nil
		})
		if (err != nil) != tc.fails || len(warnings) != tc.warnings {
			t.Errorf("%s: error %v, warnings %v", tc.name, err, warnings)
		}
		if !slices.Equal(h.AdvertiseAddress, tc.wantIPs) || !slices.Equal(h.DNSNames, tc.wantNS) {
			t.Errorf("%s: addresses %q, names %q; want %q, %q", tc.name, h.AdvertiseAddress, h.DNSNames, tc.wantIPs, tc.wantNS)
		}
		if tc.fails && !strings.Contains(err.Error(), "modules.cloudHub.advertiseAddress: Required value") {
			t.Errorf("%s: error %q doesn't name the key", tc.name, err)
		}
	}

	off := CloudHub{AdvertiseAddress: []string{""}}
	if _, err := off.CleanAddresses(func() (net.IP, error) { return nil, errors.New("asked") }); err != nil {
		t.Errorf("with the hub off: %v", err)
	}
	nothing := CloudHub{Enable: true}
	if _, err := nothing.CleanAddresses(func() (net.IP, error) { return nil, nil }); err == nil {
		t.Error("a detection without result is accepted")
	}
}

func TestAuthorization(t *testing.T) {
	for _, tc := range []struct {
		a              Authorization
		enforced, node bool
	}{
		{Default().Modules.CloudHub.Authorization, false, true},
		{Authorization{Enable: true, Debug: true}, false, false},
		{Authorization{Enable: true}, true, false},
		{Authorization{Enable: true, Modes: []AuthorizationMode{{}, {Node: NodeAuthorization{Enable: true}}}}, true, true},
	} {
		if tc.a.Enforced() != tc.enforced || tc.a.NodeMode() != tc.node {
			t.Errorf("%+v: enforced %v, node mode %v", tc.a, tc.a.Enforced(), tc.a.NodeMode())
		}
	}
}
