package edgesim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
)

// FleetOptions describe many nodes.
type FleetOptions struct {
	// Count nodes are named Prefix-0 to Prefix-(Count-1).
	Count  int
	Prefix string
	// Concurrency bounds how many nodes join and make their first connection at once; 32 if zero.
	Concurrency int
	// JoinAttempts is how often one node tries to join before the fleet gives up; 5 if zero. Refused credentials are
	// not tried again.
	JoinAttempts int
	// Node is what all nodes have in common. Its Name and Identity are not used; a Dir gets one folder per node.
	Node Options
}

// Fleet is many nodes in one process. All methods are safe for concurrent use.
type Fleet struct {
	opts   FleetOptions
	nodes  []*Node
	byName map[string]*Node
	joined atomic.Int64
}

// NewFleet returns nodes that do nothing until Run.
func NewFleet(o FleetOptions) (*Fleet, error) {
	if o.Count < 1 {
		return nil, fmt.Errorf("fleet of %d nodes", o.Count)
	}
	if o.Prefix == "" {
		return nil, errors.New("fleet prefix is empty")
	}
	if o.Concurrency <= 0 {
		o.Concurrency = 32
	}
	if o.JoinAttempts <= 0 {
		o.JoinAttempts = 5
	}
	f := &Fleet{opts: o, byName: make(map[string]*Node, o.Count)}
	buffers := new(sync.Pool)
	for i := range o.Count {
		no := o.Node
		no.Name = o.Prefix + "-" + strconv.Itoa(i)
		no.Identity = nil
		if no.NodeIP == "" {
			no.NodeIP = fleetIP(i)
		}
		if no.Dir != "" {
			no.Dir += "/" + no.Name
		}
		n, err := New(no)
		if err != nil {
			return nil, err
		}
		n.buffers = buffers
		f.nodes = append(f.nodes, n)
		f.byName[no.Name] = n
	}
	return f, nil
}

// fleetIP is an address of the range for benchmarks, which is routed nowhere.
func fleetIP(i int) string {
	return net.IPv4(198, 18+byte(i>>16&1), byte(i>>8), byte(i)).String()
}

// Nodes returns the nodes in order. The caller must not change the slice.
func (f *Fleet) Nodes() []*Node { return f.nodes }

// Node returns the node of that name, nil if there is none.
func (f *Fleet) Node(name string) *Node { return f.byName[name] }

// Run runs all nodes until ctx ends or one of them cannot join.
func (f *Fleet) Run(ctx context.Context) error {
	slots := semaphore.NewWeighted(int64(f.opts.Concurrency))
	g, ctx := errgroup.WithContext(ctx)
	for _, n := range f.nodes {
		if slots.Acquire(ctx, 1) != nil {
			break // ctx ended
		}
		free := sync.OnceFunc(func() { slots.Release(1) })
		g.Go(func() error {
			defer free()
			if err := f.identify(ctx, n); err != nil {
				return err
			}
			f.joined.Add(1)
			var wg sync.WaitGroup
			defer wg.Wait()
			connect, cancel := context.WithTimeout(ctx, n.opts.Timing.Handshake)
			defer cancel()
			wg.Go(func() {
				_ = n.WaitConnected(connect) // a node that cannot connect goes on trying without its slot
				free()
			})
			return n.Run(ctx)
		})
	}
	return g.Wait()
}

// identify joins with retries.
func (f *Fleet) identify(ctx context.Context, n *Node) error {
	for attempt := 1; ; attempt++ {
		err := n.identify(ctx)
		switch {
		case err == nil, ctx.Err() != nil:
			return nil
		case errors.Is(err, ErrTokenRefused), errors.Is(err, ErrBadToken), errors.Is(err, ErrWrongCA), attempt >= f.opts.JoinAttempts:
			return err
		}
		n.pause(ctx, n.opts.Timing.DialRetry)
	}
}

// Status says how far the nodes of a fleet are.
type Status struct {
	Nodes, Joined, Connected, Registered, Ready int
	// Pods are known to the nodes, RunningPods have a confirmed Running status.
	Pods, RunningPods int
}

// Status returns the present numbers.
func (f *Fleet) Status() Status {
	s := Status{Nodes: len(f.nodes), Joined: int(f.joined.Load())}
	for _, n := range f.nodes {
		n.rec.mu.Lock()
		v := State{&n.rec}
		s.Connected += count(v.Connected())
		s.Registered += count(v.Registered())
		s.Ready += count(v.Ready())
		s.RunningPods += n.rec.running
		for _, t := range n.rec.pods {
			s.Pods += count(t.Deleted.IsZero())
		}
		n.rec.mu.Unlock()
	}
	return s
}

func count(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

// Counters returns the sum over all nodes; MaxUnacked is the largest.
func (f *Fleet) Counters() Counters {
	var sum Counters
	total := reflect.ValueOf(&sum).Elem()
	for _, n := range f.nodes {
		c := n.Counters()
		one := reflect.ValueOf(c)
		largest := max(sum.MaxUnacked, c.MaxUnacked)
		for i := range one.NumField() {
			total.Field(i).SetUint(total.Field(i).Uint() + one.Field(i).Uint())
		}
		sum.MaxUnacked = largest
	}
	return sum
}

// Violations returns those of all nodes, each prefixed in its detail by the node.
func (f *Fleet) Violations() []Violation {
	var all []Violation
	for _, n := range f.nodes {
		for _, v := range n.Violations() {
			v.Detail = n.opts.Name + ": " + v.Detail
			all = append(all, v)
		}
	}
	return all
}

// SetFaults sets the faults of all nodes.
func (f *Fleet) SetFaults(faults Faults) {
	for _, n := range f.nodes {
		n.SetFaults(faults)
	}
}

// Reconnect drops all connections at once and dials again without pause.
func (f *Fleet) Reconnect() {
	for _, n := range f.nodes {
		n.Reconnect()
	}
}

// Wait returns when cond holds for every node, not necessarily at the same time.
func (f *Fleet) Wait(ctx context.Context, cond func(State) bool) error {
	for _, n := range f.nodes {
		if err := n.Wait(ctx, cond); err != nil {
			return err
		}
	}
	return nil
}

// WaitReady waits until every node is Ready in the eyes of the cloud.
func (f *Fleet) WaitReady(ctx context.Context) error { return f.Wait(ctx, State.Ready) }

// WaitSessions waits until every node has a session newer than those in before, by position, as Sessions returns them.
func (f *Fleet) WaitSessions(ctx context.Context, before []int) error {
	for i, n := range f.nodes {
		if err := n.Wait(ctx, func(s State) bool { return s.Connected() && s.Session() > before[i] }); err != nil {
			return err
		}
	}
	return nil
}

// Sessions returns the number of each node's newest session.
func (f *Fleet) Sessions() []int {
	out := make([]int, len(f.nodes))
	for i, n := range f.nodes {
		out[i], _ = n.Session()
	}
	return out
}

// StartLatencies returns, for every pod that runs, the time between its first push and the confirmed Running status.
func (f *Fleet) StartLatencies() []time.Duration {
	var out []time.Duration
	for _, n := range f.nodes {
		for _, t := range n.PodTimes() {
			if !t.Running.IsZero() && !t.Arrived.IsZero() {
				out = append(out, t.Running.Sub(t.Arrived))
			}
		}
	}
	return out
}
