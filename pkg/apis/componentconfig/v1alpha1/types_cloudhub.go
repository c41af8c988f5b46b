package v1alpha1

// CloudHub configures the listeners that edge nodes dial, their certificates and limits.
type CloudHub struct {
	Enable                  bool          `json:"enable" doc:"Run this module; without it no edge node can connect"`
	KeepaliveInterval       int32         `json:"keepaliveInterval" doc:"Silence after which a node counts as disconnected" unit:"seconds"`
	NodeLimit               int32         `json:"nodeLimit" doc:"How many edge nodes this replica accepts; qps and burst follow from it" unit:"nodes"`
	TLSCAFile               string        `json:"tlsCAFile" doc:"CA of the edge nodes, path of a PEM file; with its key missing as well, the Secret casecret is used"`
	TLSCAKeyFile            string        `json:"tlsCAKeyFile" doc:"Key of the CA, path of a PEM file"`
	TLSCertFile             string        `json:"tlsCertFile" doc:"Serving certificate, path of a PEM file; with its key missing as well, one is issued"`
	TLSPrivateKeyFile       string        `json:"tlsPrivateKeyFile" doc:"Key of the serving certificate, path of a PEM file"`
	WriteTimeout            int32         `json:"writeTimeout" doc:"How long one write to an edge node may take" unit:"seconds"`
	AdvertiseAddress        []string      `json:"advertiseAddress" doc:"Addresses under which edge nodes reach this cloudcore, part of the serving certificate; detected when empty"`
	DNSNames                []string      `json:"dnsNames" doc:"DNS names under which edge nodes reach this cloudcore, part of the serving certificate"`
	EdgeCertSigningDuration int64         `json:"edgeCertSigningDuration" doc:"Lifetime of certificates issued to edge nodes, a plain number" unit:"days"`
	TokenRefreshDuration    int64         `json:"tokenRefreshDuration" doc:"How often the join token is renewed, a plain number; a token lives twice as long" unit:"hours"`
	Quic                    QUIC          `json:"quic" doc:"Messages over QUIC"`
	UnixSocket              UnixSocket    `json:"unixsocket" doc:"Messages of the CSI driver"`
	WebSocket               WebSocket     `json:"websocket" doc:"Messages over WebSocket"`
	HTTPS                   HTTPS         `json:"https" doc:"Certificates for joining nodes, node checks, task reports"`
	Authorization           Authorization `json:"authorization" doc:"What an edge node may ask for"`
}

// QUIC configures the QUIC listener.
type QUIC struct {
	Enable             bool   `json:"enable" doc:"Listen for QUIC"`
	Address            string `json:"address" doc:"IP to listen on"`
	Port               uint32 `json:"port" doc:"Port to listen on" unit:"UDP port"`
	MaxIncomingStreams int32  `json:"maxIncomingStreams" doc:"Streams that one peer may have open" unit:"streams"`
}

// UnixSocket configures the local socket of the CSI driver.
type UnixSocket struct {
	Enable  bool   `json:"enable" doc:"Listen on the socket"`
	Address string `json:"address" doc:"Socket as unix:// and an absolute path"`
}

// WebSocket configures the WebSocket listener.
type WebSocket struct {
	Enable  bool   `json:"enable" doc:"Listen for WebSocket"`
	Address string `json:"address" doc:"IP to listen on"`
	Port    uint32 `json:"port" doc:"Port to listen on" unit:"TCP port"`
}

// HTTPS configures the certificate endpoint.
type HTTPS struct {
	Enable  bool   `json:"enable" doc:"No effect: the endpoint is served whenever cloudHub runs"`
	Address string `json:"address" doc:"Address to listen on"`
	Port    uint32 `json:"port" doc:"Port to listen on" unit:"TCP port"`
}

// Authorization configures the check of requests that edge nodes make.
type Authorization struct {
	Enable bool                `json:"enable" doc:"Check requests of edge nodes"`
	Debug  bool                `json:"debug" doc:"Only log what would be denied; must be false for anything to be enforced"`
	Modes  []AuthorizationMode `json:"modes" doc:"The authorizers; with none enabled everything is allowed"`
}

// AuthorizationMode is one authorizer.
type AuthorizationMode struct {
	Node NodeAuthorization `json:"node" doc:"The node authorizer of Kubernetes"`
}

// NodeAuthorization configures the node authorizer.
type NodeAuthorization struct {
	Enable bool `json:"enable" doc:"Use this authorizer"`
}

// Enforced reports whether denials take effect and calls made for a node are impersonated
// (spec 01 §4.2): both need authorization on and its debug mode off.
func (a Authorization) Enforced() bool { return a.Enable && !a.Debug }

// NodeMode reports whether the node authorizer is among the enabled modes.
func (a Authorization) NodeMode() bool {
	for _, m := range a.Modes {
		if m.Node.Enable {
			return true
		}
	}
	return false
}
