package v1alpha1

import (
	"math"
	"net"
	"time"

	netutils "k8s.io/utils/net"
)

// Derive fills in what follows from modules.cloudHub.nodeLimit (spec 01 §6.1) and writes listen
// addresses in their plain form (010.0.0.1 is tolerated in files, but not by the network
// stack). A rate that is already positive was chosen by somebody and stays; sizes are only ever
// raised. It must run before clients are built and is idempotent.
func (c *CloudCoreConfig) Derive() {
	limit := int64(max(c.Modules.CloudHub.NodeLimit, 1))
	if c.KubeAPIConfig.QPS <= 0 {
		c.KubeAPIConfig.QPS = saturate(5 * limit)
	}
	if c.KubeAPIConfig.Burst <= 0 {
		c.KubeAPIConfig.Burst = saturate(10 * limit)
	}
	load, buffer := &c.Modules.EdgeController.Load, &c.Modules.EdgeController.Buffer
	for field, floor := range map[*int32]int64{
		&load.QueryNodeWorkers:   limit,
		&load.CreateLeaseWorkers: limit,
		&load.PatchNodeWorkers:   100 + limit/50,
		&buffer.PatchNode:        defaultQueue + limit/2,
		&buffer.QueryNode:        defaultQueue + limit,
		&buffer.CreateLease:      defaultQueue + limit,
	} {
		*field = max(*field, saturate(floor))
	}
	hub := &c.Modules.CloudHub
	for _, address := range []*string{&hub.HTTPS.Address, &hub.WebSocket.Address, &hub.Quic.Address, &c.Modules.Router.Address} {
		*address = plainIP(*address)
	}
	if host, port, err := net.SplitHostPort(c.CommonConfig.MonitorServer.BindAddress); err == nil {
		c.CommonConfig.MonitorServer.BindAddress = net.JoinHostPort(plainIP(host), port)
	}
}

func plainIP(address string) string {
	if ip := netutils.ParseIPSloppy(address); ip != nil {
		return ip.String()
	}
	return address
}

func saturate(n int64) int32 { return int32(min(n, math.MaxInt32)) }

// span converts n units to a duration without overflow.
func span(n int64, unit time.Duration) time.Duration {
	if n > int64(math.MaxInt64/unit) {
		return math.MaxInt64
	}
	return time.Duration(n) * unit
}

// Lifetimes that hold when the file names none that could work.
const (
	fallbackCertDays = 365
	maxCertDays      = 100 * 365 // far below the overflow of time.Duration
	maxTokenHours    = 100 * 365 * 24
)

// EdgeCertValidity is the lifetime of certificates for edge nodes. A number of days that would
// make certificates expire at birth gives the default (Warnings says so).
func (h CloudHub) EdgeCertValidity() time.Duration {
	if h.EdgeCertSigningDuration <= 0 {
		return span(fallbackCertDays, 24*time.Hour)
	}
	return span(min(h.EdgeCertSigningDuration, maxCertDays), 24*time.Hour)
}

// TokenRefresh is the period of the join token's renewal; twice this value is its lifetime and
// still fits a time.Duration.
func (h CloudHub) TokenRefresh() time.Duration {
	return span(min(h.TokenRefreshDuration, maxTokenHours), time.Hour)
}

// Keepalive is the silence after which a node counts as disconnected.
func (h CloudHub) Keepalive() time.Duration { return span(int64(h.KeepaliveInterval), time.Second) }

// WriteDeadline is how long one write to an edge node may take; a file that says zero or less
// gets the default, because a write without a deadline lets one peer hold its session for ever.
func (h CloudHub) WriteDeadline() time.Duration {
	if h.WriteTimeout <= 0 {
		return 30 * time.Second
	}
	return span(int64(h.WriteTimeout), time.Second)
}

// StatusPeriod is the period of the node status upkeep.
func (e EdgeController) StatusPeriod() time.Duration {
	return span(int64(e.NodeUpdateFrequency), time.Second)
}

// Timeout is how long a REST call through the router may take.
func (r Router) Timeout() time.Duration { return span(int64(r.RestTimeout), time.Second) }

// Internal reports whether this process keeps the NAT rules itself.
func (m IptablesManager) Internal() bool { return m.Enable && m.Mode == IptablesInternal }
