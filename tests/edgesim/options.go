package edgesim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/cloudcore-io/cloudcore/pkg/message"
)

// DefaultProjectID is the project that EdgeCore puts in its headers and path unless configured otherwise (spec 02 §2.1).
const DefaultProjectID = "e632aba927ea4ac2b575ec1603d56f10"

// Options describe one node. The zero value of every field but Name and Cloud is what a default EdgeCore does.
type Options struct {
	// Name is the node name.
	Name string
	// Cloud is the host name or address of the cloudcore, as it stands in its server certificate.
	Cloud string
	// HubPort is the WebSocket port, 10000 if zero; HTTPSPort is the certificate port, 10002 if zero.
	HubPort, HTTPSPort int
	// Token is the bootstrap token, needed unless Identity is set or Dir holds an identity.
	Token string
	// Identity is what an earlier join gave; it saves the join.
	Identity *Identity
	// Dir, if set, keeps the identity between runs.
	Dir string
	// ProjectID is DefaultProjectID if empty.
	ProjectID string
	// NodeIP is reported as the node's internal address, 192.0.2.1 if empty.
	NodeIP string
	// Labels are added to those of every edge node.
	Labels map[string]string
	// NodeNamespace is the token that stands for "no namespace" in the path of a node: "null", or "default" for an
	// EdgeCore up to 1.22, which also asks the cloud for its Node instead of reading its store (spec 04 §6).
	NodeNamespace string

	// LinkOnly leaves out the kubelet and the device twin: the node only stores and acknowledges.
	LinkOnly bool
	// NoTwin leaves out the membership request of the device twin.
	NoTwin bool
	// NoRotate leaves out the renewal of the certificate.
	NoRotate bool
	// SkipTokens lets pods run without asking for the service account tokens in their projected volumes.
	SkipTokens bool
	// Events reports events of pods, which EdgeCore does not by default.
	Events bool
	// FetchCA asks for the certificate authority of kube-apiserver at start, as the edge's MetaServer does.
	FetchCA bool

	// Timing and Limits are defaulted field by field.
	Timing Timing
	Limits Limits
	// Faults are in force from the start.
	Faults Faults
	// Seed makes jitter and faults repeatable; nodes of one seed differ by their names.
	Seed uint64

	// Dial opens TCP connections; nil means a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// OnPush is called for every push at its arrival, by the goroutine that reads the connection: it must not block.
	OnPush func(node string, p Push)
	// OnMessage is called for every message that is neither a push nor an answer (device twin, router, tasks), in
	// order of arrival. It must not block.
	OnMessage func(node string, m *message.Message)
	// Volume answers an operation of the CSI driver (spec 03 §11). Without it the edge answers null after
	// Timing.VolumeTimeout, as an EdgeCore without driver does.
	Volume func(operation string, content []byte) []byte
}

// Timing holds the periods of an edge. A zero field takes the value of DefaultTiming.
type Timing struct {
	// Heartbeat is the period of keepalives; twice as long the edge waits before it dials again (spec 03 §3.1).
	Heartbeat time.Duration
	// DialRetry is the pause between the dials of one cycle.
	DialRetry time.Duration
	// Handshake bounds one dial, TLS and upgrade included.
	Handshake time.Duration
	// WriteDeadline bounds the write of one message.
	WriteDeadline time.Duration
	// Request bounds the wait for the answer to a request (spec 04 §1).
	Request time.Duration
	// Lease is the period of lease renewals (spec 04 §3.8).
	Lease time.Duration
	// NodeStatus is the period in which a changed node status is reported, NodeReport that of an unchanged one.
	NodeStatus, NodeReport time.Duration
	// RetryMin and RetryMax bound the backoff of registration and of asking for the lease (spec 04 §3.1).
	RetryMin, RetryMax time.Duration
	// PodSync is the period in which failed and outside changes of pod status are repaired.
	PodSync time.Duration
	// PodStart is how long containers take to run once everything they refer to is there, PodStop how long they take
	// to end, if the pod's grace period is not shorter.
	PodStart, PodStop time.Duration
	// FetchMin and FetchMax bound the backoff of asking for a missing ConfigMap, Secret or token.
	FetchMin, FetchMax time.Duration
	// TwinRepeat is the period in which the device twin repeats what was not confirmed (spec 03 §12.1).
	TwinRepeat time.Duration
	// SwapHold is how long a push waits for a neighbour to be swapped with.
	SwapHold time.Duration
	// VolumeTimeout is how long an operation of the CSI driver blocks the store without Options.Volume.
	VolumeTimeout time.Duration
	// Join bounds one HTTPS request of the join.
	Join time.Duration
	// RenewRetry is the first pause after a failed renewal; it doubles four times, then stays at 16 times.
	RenewRetry time.Duration
}

// DefaultTiming returns the periods of an EdgeCore with default configuration.
func DefaultTiming() Timing {
	return Timing{
		Heartbeat:     15 * time.Second,
		DialRetry:     5 * time.Second,
		Handshake:     30 * time.Second,
		WriteDeadline: 15 * time.Second,
		Request:       60 * time.Second,
		Lease:         10 * time.Second,
		NodeStatus:    10 * time.Second,
		NodeReport:    5 * time.Minute,
		RetryMin:      100 * time.Millisecond,
		RetryMax:      7 * time.Second,
		PodSync:       10 * time.Second,
		PodStart:      100 * time.Millisecond,
		PodStop:       500 * time.Millisecond,
		FetchMin:      500 * time.Millisecond,
		FetchMax:      2 * time.Minute,
		TwinRepeat:    time.Minute,
		SwapHold:      20 * time.Millisecond,
		VolumeTimeout: time.Minute,
		Join:          30 * time.Second,
		RenewRetry:    2 * time.Second,
	}
}

func (t *Timing) fields() []*time.Duration {
	return []*time.Duration{
		&t.Heartbeat, &t.DialRetry, &t.Handshake, &t.WriteDeadline, &t.Request, &t.Lease, &t.NodeStatus, &t.NodeReport,
		&t.RetryMin, &t.RetryMax, &t.PodSync, &t.PodStart, &t.PodStop, &t.FetchMin, &t.FetchMax, &t.TwinRepeat,
		&t.SwapHold, &t.VolumeTimeout, &t.Join, &t.RenewRetry,
	}
}

// Scale returns t with every period multiplied by factor: Scale(0.01) makes an edge a hundred times faster.
func (t Timing) Scale(factor float64) Timing {
	for _, f := range t.fields() {
		*f = time.Duration(float64(*f) * factor)
	}
	return t
}

func (t Timing) withDefaults() Timing {
	defaults := DefaultTiming()
	from := defaults.fields()
	for i, f := range t.fields() {
		if *f <= 0 {
			*f = *from[i]
		}
	}
	return t
}

// Limits hold the bounds of an edge's queues and limiter. A zero field takes the value of an EdgeCore.
type Limits struct {
	// FIFO is the length of the receive queue, which drops its oldest message when full: 100 (spec 02 §2.4).
	FIFO int
	// Inbox is the length of the queue of the store and Outbox that of the hub, which drop what comes when full: 1024.
	Inbox, Outbox int
	// Rate and Burst limit what is sent, acknowledgements included and keepalives not: 30/s and 60 (spec 03 §3.1).
	Rate  float64
	Burst int
	// StoreDelay is the time the store takes for one message: none.
	StoreDelay time.Duration
	// Dials is the number of dials in one cycle: 5.
	Dials int
	// History is how many pushes are remembered, 4096; Messages how many other messages, 256.
	History, Messages int
}

func (l Limits) withDefaults() Limits {
	for _, f := range []struct {
		field *int
		value int
	}{{&l.FIFO, 100}, {&l.Inbox, 1024}, {&l.Outbox, 1024}, {&l.Burst, 60}, {&l.Dials, 5}, {&l.History, 4096}, {&l.Messages, 256}} {
		if *f.field <= 0 {
			*f.field = f.value
		}
	}
	if l.Rate <= 0 {
		l.Rate = 30
	}
	return l
}

func (o Options) withDefaults() (Options, error) {
	if o.Name == "" {
		return o, errors.New("node name is empty")
	}
	if o.Cloud == "" {
		return o, fmt.Errorf("node %s: cloud host is empty", o.Name)
	}
	if o.HubPort == 0 {
		o.HubPort = 10000
	}
	if o.HTTPSPort == 0 {
		o.HTTPSPort = 10002
	}
	if o.ProjectID == "" {
		o.ProjectID = DefaultProjectID
	}
	if o.NodeIP == "" {
		o.NodeIP = "192.0.2.1"
	}
	if o.NodeNamespace == "" {
		o.NodeNamespace = message.NoNamespace
	}
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	o.Timing = o.Timing.withDefaults()
	o.Limits = o.Limits.withDefaults()
	return o, nil
}

func (o *Options) hubAddress() string { return net.JoinHostPort(o.Cloud, strconv.Itoa(o.HubPort)) }

func (o *Options) httpsAddress() string { return net.JoinHostPort(o.Cloud, strconv.Itoa(o.HTTPSPort)) }
