// Package synccontroller is the module "synccontroller": it removes what is left of nodes that are gone.
//
// Stale and missing objects of live nodes are the business of the delivery engine, which compares them at every
// connect, at every change, and now and then. What it can't see are nodes that never come back: when a Node object is
// deleted, this module ends the node's session and deletes its records (spec 03 §9.4, §10.1). Nodes are keys of a work
// queue, so that a slow apiserver delays nothing else and one node is never handled twice at once.
package synccontroller

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"

	"github.com/cloudcore-io/cloudcore/pkg/message"
)

// Records are the delivery records by node.
type Records interface {
	Nodes() []string
	RemoveNode(node string) int
	Synced() bool
}

// Module removes what is left of deleted nodes.
type Module struct {
	records    Records
	nodes      cache.SharedIndexInformer
	client     kubernetes.Interface
	disconnect func(node string)
	// period is the time between two looks at all records, the net for a missed event.
	period time.Duration
	ready  atomic.Bool
}

// New returns the module. The informer holds all Nodes; disconnect ends the session of a node.
func New(records Records, nodes cache.SharedIndexInformer, client kubernetes.Interface, disconnect func(node string)) *Module {
	return &Module{records: records, nodes: nodes, client: client, disconnect: disconnect, period: 10 * time.Minute}
}

// Name implements the module interface of the composition root.
func (m *Module) Name() string { return message.ModuleSync }

var errNotSynced = errors.New("caches are not complete yet")

// Ready implements the module interface of the composition root.
func (m *Module) Ready() error {
	if !m.ready.Load() {
		return errNotSynced
	}
	return nil
}

// Run works until ctx ends.
func (m *Module) Run(ctx context.Context) error {
	queue := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[string]())
	defer m.ready.Store(false)
	registration, err := m.nodes.AddEventHandler(cache.ResourceEventHandlerFuncs{
		DeleteFunc: func(obj any) {
			if d, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				queue.Add(d.Key)
				return
			}
			if n, ok := obj.(*corev1.Node); ok {
				queue.Add(n.Name)
			}
		},
	})
	if err != nil {
		queue.ShutDown()
		return fmt.Errorf("follow nodes: %w", err)
	}
	// An error here says that the informer has stopped, and with it the handler.
	defer func() { _ = m.nodes.RemoveEventHandler(registration) }()
	stop := context.AfterFunc(ctx, queue.ShutDown)
	defer stop()
	var looking sync.WaitGroup
	defer looking.Wait()
	looking.Go(func() { m.look(ctx, queue) })
	for {
		node, shutdown := queue.Get()
		if shutdown {
			return nil
		}
		if err := m.collect(ctx, node); err != nil && ctx.Err() == nil {
			klog.FromContext(ctx).Error(err, "Collecting the records of a node failed, will retry", "node", node)
			queue.AddRateLimited(node)
		} else {
			queue.Forget(node)
		}
		queue.Done(node)
	}
}

// look queues every node that has records and no Node object: at start, and again each period.
func (m *Module) look(ctx context.Context, queue workqueue.TypedInterface[string]) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		if m.nodes.HasSynced() && m.records.Synced() {
			m.ready.Store(true)
			tick.Reset(m.period)
			for _, node := range m.records.Nodes() {
				if _, exists, err := m.nodes.GetStore().GetByKey(node); err == nil && !exists {
					queue.Add(node)
				}
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// collect removes what is left of a node if kube-apiserver has no such Node.
func (m *Module) collect(ctx context.Context, node string) error {
	if _, exists, err := m.nodes.GetStore().GetByKey(node); err == nil && exists {
		return nil // made again meanwhile
	}
	// The cache may be behind a Node that was made just now; its records would be missed.
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	_, err := m.client.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
	if err == nil {
		return nil
	}
	if !apierrors.IsNotFound(err) {
		return fmt.Errorf("get node %s: %w", node, err)
	}
	m.disconnect(node)
	if n := m.records.RemoveNode(node); n > 0 {
		klog.FromContext(ctx).V(2).Info("Removing the records of a deleted node", "node", node, "records", n)
	}
	return nil
}
