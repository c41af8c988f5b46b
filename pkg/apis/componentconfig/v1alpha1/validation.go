package v1alpha1

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"
)

// Validate returns every error of the configuration at once, in the order of spec 01 §15.1.
// A disabled module is not looked at. What other implementations let pass is an error here only
// where it could not have worked; the rest is in Warnings. Nothing is created or changed.
func (c *CloudCoreConfig) Validate() field.ErrorList {
	var errs field.ErrorList
	errs = append(errs, validateKubeAPI(c.KubeAPIConfig, field.NewPath("kubeAPIConfig"))...)
	errs = append(errs, validateMonitor(c.CommonConfig.MonitorServer, field.NewPath("commonConfig", "monitorServer"))...)
	modules := field.NewPath("modules")
	if c.Modules.CloudHub.Enable {
		errs = append(errs, validateCloudHub(c.Modules.CloudHub, modules.Child("cloudHub"))...)
	}
	if e := c.Modules.EdgeController; e.Enable && e.NodeUpdateFrequency <= 0 {
		errs = append(errs, notPositive(modules.Child("edgeController", "nodeUpdateFrequency"), int64(e.NodeUpdateFrequency)))
	}
	if c.Modules.CloudStream.Enable {
		errs = append(errs, validateCloudStream(c.Modules.CloudStream, modules.Child("cloudStream"))...)
	}
	if r := c.Modules.Router; r.Enable {
		errs = append(errs, validatePort(modules.Child("router", "port"), r.Port)...)
	}
	return append(errs, c.validateListeners(modules)...)
}

func validateKubeAPI(k KubeAPIConfig, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if k.KubeConfig == "" {
		return nil
	}
	path = path.Child("kubeConfig")
	if !filepath.IsAbs(k.KubeConfig) {
		errs = append(errs, field.Invalid(path, k.KubeConfig, "must be an absolute path"))
	}
	return append(errs, validateExists(path, k.KubeConfig)...)
}

func validateExists(path *field.Path, file string) field.ErrorList {
	switch _, err := os.Stat(file); {
	case err == nil:
		return nil
	case os.IsNotExist(err):
		return field.ErrorList{field.Invalid(path, file, "file does not exist")}
	default:
		return field.ErrorList{field.Invalid(path, file, err.Error())}
	}
}

func validateMonitor(m MonitorServer, path *field.Path) field.ErrorList {
	if m.BindAddress == "" {
		return nil // switched off
	}
	path = path.Child("bindAddress")
	host, port, err := net.SplitHostPort(m.BindAddress)
	if err != nil {
		return field.ErrorList{field.Invalid(path, m.BindAddress, "must be IP:port")}
	}
	var errs field.ErrorList
	if netutils.ParseIPSloppy(host) == nil {
		errs = append(errs, field.Invalid(path, m.BindAddress, "must be a valid IP"))
	}
	if n, err := strconv.Atoi(port); err != nil || len(validation.IsValidPortNum(n)) > 0 {
		errs = append(errs, field.Invalid(path, m.BindAddress, "must be a valid port"))
	}
	return errs
}

func validateCloudHub(h CloudHub, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	errs = append(errs, validatePort(path.Child("https", "port"), h.HTTPS.Port)...)
	errs = append(errs, validatePort(path.Child("websocket", "port"), h.WebSocket.Port)...)
	errs = append(errs, validateIP(path.Child("websocket", "address"), h.WebSocket.Address)...)
	errs = append(errs, validatePort(path.Child("quic", "port"), h.Quic.Port)...)
	errs = append(errs, validateIP(path.Child("quic", "address"), h.Quic.Address)...)
	if !strings.HasPrefix(strings.ToLower(h.UnixSocket.Address), "unix://") {
		errs = append(errs, field.Invalid(path.Child("unixsocket", "address"), h.UnixSocket.Address, "must have the prefix unix://"))
	}
	if h.TokenRefreshDuration <= 0 {
		errs = append(errs, notPositive(path.Child("tokenRefreshDuration"), h.TokenRefreshDuration))
	}
	// Not checked elsewhere, but with such a value every session ended as it began.
	if h.KeepaliveInterval <= 0 {
		errs = append(errs, notPositive(path.Child("keepaliveInterval"), int64(h.KeepaliveInterval)))
	}
	return errs
}

func notPositive(path *field.Path, value int64) *field.Error {
	return field.Invalid(path, value, "must be greater than 0")
}

func validatePort(path *field.Path, port uint32) field.ErrorList {
	if port < 1 || port > 65535 {
		return field.ErrorList{field.Invalid(path, port, validation.InclusiveRangeError(1, 65535))}
	}
	return nil
}

func validateIP(path *field.Path, address string) field.ErrorList {
	if netutils.ParseIPSloppy(address) == nil {
		return field.ErrorList{field.Invalid(path, address, "must be a valid IP address")}
	}
	return nil
}

func validateCloudStream(s CloudStream, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	errs = append(errs, validateExists(path.Child("tlsStreamPrivateKeyFile"), s.TLSStreamPrivateKeyFile)...)
	errs = append(errs, validateExists(path.Child("tlsStreamCertFile"), s.TLSStreamCertFile)...)
	errs = append(errs, validateExists(path.Child("tlsStreamCAFile"), s.TLSStreamCAFile)...)
	errs = append(errs, validatePort(path.Child("tunnelPort"), s.TunnelPort)...)
	return append(errs, validatePort(path.Child("streamPort"), s.StreamPort)...)
}

// listener is one TCP address that an enabled module is going to open.
type listener struct {
	path *field.Path
	host string
	port uint32
}

// clash reports whether both cannot be open at once: same port and the same address, or one of
// them on all addresses.
func (l listener) clash(o listener) bool {
	a, b := netutils.ParseIPSloppy(l.host), netutils.ParseIPSloppy(o.host)
	wild := l.host == "" || o.host == "" || a != nil && a.IsUnspecified() || b != nil && b.IsUnspecified()
	return l.port == o.port && (wild || l.host == o.host || a != nil && a.Equal(b))
}

// validateListeners finds two enabled modules on one port: the second could never have opened
// it. The monitor server is left out, its failure to listen does not stop the start.
func (c *CloudCoreConfig) validateListeners(path *field.Path) field.ErrorList {
	var all []listener
	m := c.Modules
	if hub := path.Child("cloudHub"); m.CloudHub.Enable {
		all = append(all, listener{hub.Child("https", "port"), m.CloudHub.HTTPS.Address, m.CloudHub.HTTPS.Port})
		if m.CloudHub.WebSocket.Enable {
			all = append(all, listener{hub.Child("websocket", "port"), m.CloudHub.WebSocket.Address, m.CloudHub.WebSocket.Port})
		}
	}
	if stream := path.Child("cloudStream"); m.CloudStream.Enable {
		all = append(all,
			listener{stream.Child("tunnelPort"), "", m.CloudStream.TunnelPort},
			listener{stream.Child("streamPort"), "", m.CloudStream.StreamPort})
	}
	if m.Router.Enable {
		all = append(all, listener{path.Child("router", "port"), m.Router.Address, m.Router.Port})
	}
	var errs field.ErrorList
	for i, l := range all {
		for _, earlier := range all[:i] {
			if l.clash(earlier) {
				errs = append(errs, field.Invalid(l.path, l.port, fmt.Sprintf("is also the value of %s, both would listen on it", earlier.path)))
				break
			}
		}
	}
	return errs
}
