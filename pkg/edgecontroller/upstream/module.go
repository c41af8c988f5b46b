package upstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/klog/v2"

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
	// OnBehalfOf marks a context as acting for a node; nil if the process never impersonates.
	OnBehalfOf func(ctx context.Context, node string) context.Context
	// EventRate and EventBurst limit the events of one node, a second; 10 and 50.
	EventRate, EventBurst int
}

func (c Config) withDefaults() Config {
	c.StatusPeriod = cmp.Or(c.StatusPeriod, 10*time.Second)
	c.CallTimeout = cmp.Or(c.CallTimeout, 20*time.Second)
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

// verb names a kind of request.
type verb struct{ typ, op string }

// route says how a kind of request is handled.
type route struct {
	lane   lane
	handle func(ctx context.Context, r *request) (reply, error)
	// refuse is the form of its errors.
	refuse errorForm
	// own calls act as cloudcore even if calls for nodes impersonate them.
	own bool
}

// request is one message with its parsed path.
type request struct {
	*message.Message
	path message.Resource
}

// reply is the answer of a handler. The zero value sends nothing.
type reply struct {
	content []byte
	version string // for header.resourceversion
	path    string // other than that of the request; legacy forms need it
	// sent is called after the answer was handed to the session, or nil.
	sent func()
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
	m.inbox, err = bus.NewInbox(bus.InboxConfig{
		Module: message.ModuleEdge,
		// Each worker is one call of kube-apiserver in flight. Leases are many and quick; queries may wait long.
		Lanes: []bus.Lane{
			laneLease: {Name: "lease", Workers: 32, PerNode: 16},
			laneNode:  {Name: "node", Workers: 32, PerNode: 16},
			lanePod:   {Name: "pod", Workers: 32, PerNode: 64},
			laneQuery: {Name: "query", Workers: 32, PerNode: 64},
			laneEvent: {Name: "event", Workers: 8, PerNode: 64},
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
	unregister, err := m.bus.Register(message.ModuleEdge, message.ModuleEdge, m.inbox.Put)
	if err != nil {
		return err
	}
	defer unregister()
	m.running.Store(true)
	defer m.running.Store(false)
	return m.inbox.Run(ctx)
}

func (m *Module) lane(msg *message.Message) int {
	path, err := message.ParseResource(msg.Route.Resource)
	if err != nil {
		return int(laneQuery)
	}
	if r, ok := m.table[verb{path.Type, msg.Route.Operation}]; ok {
		return int(r.lane)
	}
	return int(laneQuery)
}

// serve handles one message and answers it.
func (m *Module) serve(ctx context.Context, msg *message.Message) {
	begun := time.Now()
	ctx, cancel := context.WithTimeout(ctx, m.cfg.CallTimeout)
	defer cancel()

	r := &request{Message: msg}
	var err error
	if r.path, err = message.ParseResource(msg.Route.Resource); err != nil {
		m.refuse(ctx, r, asText, invalid(err))
		m.metrics.unknown.Inc()
		return
	}
	kind := verb{r.path.Type, msg.Route.Operation}
	route, ok := m.table[kind]
	if !ok {
		m.refuse(ctx, r, asText, invalid(fmt.Errorf("no handler for operation %q of %q", msg.Route.Operation, r.path.Type)))
		m.metrics.unknown.Inc()
		return
	}
	if m.cfg.OnBehalfOf != nil && !route.own {
		ctx = m.cfg.OnBehalfOf(ctx, msg.Node)
	}
	answer, err := m.handle(ctx, route, r)
	if err != nil {
		m.refuse(ctx, r, route.refuse, err)
	} else {
		m.answer(ctx, r, answer)
	}
	if answer.sent != nil {
		answer.sent()
	}
	m.metrics.handled(kind, err, time.Since(begun))
}

func (m *Module) handle(ctx context.Context, route route, r *request) (reply, error) {
	if r.path.Name == "" && r.path.Type != message.TypePodStatus {
		return reply{}, invalid(fmt.Errorf("path %q names no object", r.Route.Resource))
	}
	return route.handle(ctx, r)
}

func (m *Module) answer(ctx context.Context, r *request, a reply) {
	if a.content == nil {
		return
	}
	out := message.Reply(r.Message, message.ModuleEdge, a.content)
	out.Header.ResourceVersion = a.version
	if a.path != "" {
		out.Route.Resource = a.path
	}
	m.send(ctx, out)
}

func (m *Module) send(ctx context.Context, out *message.Message) {
	if err := m.bus.Send(ctx, message.ModuleHub, out); err != nil {
		klog.FromContext(ctx).V(4).Info("Answer not sent", "node", out.Node, "parentID", out.Header.ParentID, "err", err)
	}
}
