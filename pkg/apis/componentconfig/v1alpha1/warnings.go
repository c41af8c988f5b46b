package v1alpha1

import (
	"fmt"
	"os"
	"strings"
)

// Warnings returns what is odd about the values of a configuration without making it unusable.
// What is odd about a file (unknown keys and the like) is the loader's to say.
func (c *CloudCoreConfig) Warnings() []Warning {
	var out []Warning
	warn := func(path, format string, args ...any) {
		out = append(out, Warning{path, fmt.Sprintf(format, args...)})
	}
	// The official chart says v1alpha2 and means this format: no reason to alarm anybody.
	if v := c.APIVersion; v != APIVersion && v != "cloudcore.config.kubeedge.io/v1alpha2" {
		warn("apiVersion", "expected %s, got %q; read as if it were that", APIVersion, v)
	}
	if !strings.EqualFold(c.Kind, Kind) {
		warn("kind", "expected %s, got %q; read as if it were that", Kind, c.Kind)
	}
	switch c.KubeAPIConfig.ContentType {
	case ContentTypeProtobuf, ContentTypeJSON, "":
	default:
		warn("kubeAPIConfig.contentType", "%q is not supported, %s is used", c.KubeAPIConfig.ContentType, ContentTypeProtobuf)
	}
	if !c.Modules.CloudHub.Enable {
		warn("modules.cloudHub.enable", "cloudHub is off, NO EDGE NODE CAN CONNECT; files printed by --minconfig of releases 1.7 to 1.23 say false by mistake, set it to true")
		if c.Modules.CloudStream.Enable {
			warn("modules.cloudStream.enable", "without cloudHub edge nodes cannot join, the tunnel serves only nodes that already hold a certificate")
		}
	} else {
		c.Modules.CloudHub.warnings(warn)
	}
	if s := c.Modules.CloudStream; s.Enable {
		for _, f := range []struct{ key, path string }{
			{"tlsTunnelCAFile", s.TLSTunnelCAFile},
			{"tlsTunnelCertFile", s.TLSTunnelCertFile},
			{"tlsTunnelPrivateKeyFile", s.TLSTunnelPrivateKeyFile},
		} {
			if _, err := os.Stat(f.path); err != nil {
				warn("modules.cloudStream."+f.key, "%s cannot be used, cloudHub's certificates take its place: %v", f.path, err)
			}
		}
	}
	if r := c.Modules.Router; r.Enable && r.RestTimeout == 0 {
		warn("modules.router.restTimeout", "0 ends every REST call at once")
	}
	return out
}

func (h CloudHub) warnings(warn func(path, format string, args ...any)) {
	const hub = "modules.cloudHub."
	if h.NodeLimit <= 0 {
		warn(hub+"nodeLimit", "%d lets no edge node connect", h.NodeLimit)
	}
	if h.EdgeCertSigningDuration <= 0 {
		warn(hub+"edgeCertSigningDuration", "%d would issue expired certificates, %d days are used", h.EdgeCertSigningDuration, fallbackCertDays)
	} else if h.EdgeCertSigningDuration > maxCertDays {
		warn(hub+"edgeCertSigningDuration", "%d days are too long, %d are used", h.EdgeCertSigningDuration, maxCertDays)
	}
	if h.TokenRefreshDuration > maxTokenHours {
		warn(hub+"tokenRefreshDuration", "%d hours are too long, %d are used", h.TokenRefreshDuration, maxTokenHours)
	}
	if h.WriteTimeout <= 0 {
		warn(hub+"writeTimeout", "%d is no time to write, %s is used", h.WriteTimeout, h.WriteDeadline())
	}
	if h.Quic.Enable && h.Quic.MaxIncomingStreams < 0 {
		warn(hub+"quic.maxIncomingStreams", "%d lets no peer open a stream", h.Quic.MaxIncomingStreams)
	}
	if !h.HTTPS.Enable {
		warn(hub+"https.enable", "false has no effect, the certificate endpoint is served whenever cloudHub runs")
	}
	if h.Authorization.Enable && !h.Authorization.NodeMode() {
		warn(hub+"authorization.modes", "no authorizer is enabled, every request of an edge node is allowed")
	}
}
