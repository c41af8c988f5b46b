package upstream

import (
	"cmp"
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/cloudcore-io/cloudcore/pkg/bus"
	"github.com/cloudcore-io/cloudcore/pkg/desired"
	"github.com/cloudcore-io/cloudcore/pkg/message"
)

// View is what is known of the state of nodes (package downstream).
type View interface {
	Node(name string) (*corev1.Node, bool)
	Pod(node, namespace, name string) (*corev1.Pod, bool)
	Pods(node string) []*corev1.Pod
	Refers(node string, key desired.Key) (refers, required bool)
	Cached(node string, key desired.Key) (desired.Object, bool)
	NodeKey(name string) desired.Key
	PodKey(namespace, name string) desired.Key
	ConfigMapKey(namespace, name string) desired.Key
	SecretKey(namespace, name string) desired.Key
}

// Config tunes the module. Zero fields take defaults.
type Config struct {
	// LocalAddress is the IP of this replica, for the annotation of Nodes.
	LocalAddress string
	// StatusPeriod is the age at which the heartbeats of legacy status reports are renewed; 10 s.
	StatusPeriod time.Duration
	// CallTimeout bounds the calls for one message; 20 s. The edge waits 60 s.
	CallTimeout time.Duration
	// MaxAge is how long a request may wait for its turn; 50 s. After 60 s nobody on the edge waits for the answer.
	MaxAge time.Duration
	// OnBehalfOf marks a context as acting for a node; nil if the process never impersonates.
	OnBehalfOf func(ctx context.Context, node string) context.Context
	// Workers is how many requests of each lane are handled at the same time, each of another node; 32.
	Workers int
	// Waiting is how many requests of one node may wait in each lane before its session reads no more; 64.
	Waiting int
	// EventRate and EventBurst limit the events of one node, a second; 10 and 50.
	EventRate, EventBurst int
}

func (c Config) withDefaults() Config {
	c.StatusPeriod = cmp.Or(c.StatusPeriod, 10*time.Second)
	c.CallTimeout = cmp.Or(c.CallTimeout, 20*time.Second)
	c.MaxAge = cmp.Or(c.MaxAge, 50*time.Second)
	c.Workers = cmp.Or(c.Workers, 32)
	c.Waiting = cmp.Or(c.Waiting, 64)
	c.EventRate, c.EventBurst = cmp.Or(c.EventRate, 10), cmp.Or(c.EventBurst, 50)
	return c
}

// lane is the index of a lane of the inbox.
type lane int

const (
	laneLease lane = iota
	laneNode
	lanePod
	laneQuery
	laneEvent
)

// Module answers the messages of nodes.
type Module struct {
	cfg      Config
	client   kubernetes.Interface
	bus      *bus.Bus
	delivery desired.Delivery
	view     View
	inbox    *bus.Inbox
	metrics  *metrics
	events   *eventLimits
	table    map[verb]route
	running  atomic.Bool
}

// New returns the module.
func New(cfg Config, client kubernetes.Interface, b *bus.Bus, d desired.Delivery, view View, reg prometheus.Registerer) (*Module, error) {
	m := &Module{cfg: cfg.withDefaults(), client: client, bus: b, delivery: d, view: view}
	m.events = newEventLimits(m.cfg.EventRate, m.cfg.EventBurst)
	m.table = m.routes()
	var err error
	if m.metrics, err = newMetrics(reg, m.table); err != nil {
		return nil, err
	}
	lane := func(name string, workers int) bus.Lane {
		return bus.Lane{Name: name, Workers: workers, PerNode: m.cfg.Waiting}
	}
	m.inbox, err = bus.NewInbox(bus.InboxConfig{
		Module: message.ModuleEdge,
		Lanes: []bus.Lane{ // each worker is a call of kube-apiserver in flight
			laneLease: lane("lease", m.cfg.Workers),
			laneNode:  lane("node", m.cfg.Workers),
			lanePod:   lane("pod", m.cfg.Workers),
			laneQuery: lane("query", m.cfg.Workers),
			laneEvent: lane("event", max(1, m.cfg.Workers/4)),
		},
		Lane:       m.lane,
		Handle:     m.serve,
		Registerer: reg,
	})
	return m, err
}

// Name implements the module interface of the composition root.
func (m *Module) Name() string { return message.ModuleEdge }

var errNotRunning = errors.New("not running")

// Ready implements the module interface of the composition root.
func (m *Module) Ready() error {
	if !m.running.Load() {
		return errNotRunning
	}
	return nil
}

// Run takes messages from the bus until ctx ends.
func (m *Module) Run(ctx context.Context) error {
	unregister, err := m.bus.Register(message.ModuleEdge, message.ModuleEdge, m.receive)
	if err != nil {
		return err
	}
	defer unregister()
	m.running.Store(true)
	defer m.running.Store(false)
	return m.inbox.Run(ctx)
}

// receive is the module's bus.Receiver. What waits in the inbox carries the time of its arrival by our clock: that of
// an edge may be wrong.
func (m *Module) receive(ctx context.Context, msg *message.Message) error {
	arrived := *msg
	arrived.Header.Timestamp = time.Now().UnixMilli()
	return m.inbox.Put(ctx, &arrived)
}

func (m *Module) lane(msg *message.Message) int {
	if path, err := message.ParseResource(msg.Route.Resource); err == nil {
		if r, ok := m.table[verb{path.Type, msg.Route.Operation}]; ok {
			return int(r.lane)
		}
	}
	return int(laneQuery)
}
