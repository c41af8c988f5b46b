package downstream

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"

	"github.com/cloudcore-io/cloudcore/pkg/desired"
)

// runner is one run of a View.
type runner struct {
	*View
	ended <-chan struct{} // closed with Run: events that arrive later are dropped
	queue workqueue.TypedRateLimitingInterface[desired.Key]
}

// Run follows the informers until ctx ends. Nodes are followed before pods, so that the class of a node is known when
// its pods come (spec 04 §7, defect 27).
func (v *View) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	r := &runner{View: v, ended: ctx.Done(), queue: workqueue.NewTypedRateLimitingQueue(
		workqueue.NewTypedItemExponentialFailureRateLimiter[desired.Key](v.cfg.MinBackoff, v.cfg.MaxBackoff))}
	for range v.cfg.Readers { // readers of objects
		g.Go(func() error { r.readLoop(ctx); return nil })
	}
	g.Go(func() error { // the handlers, and the end of the readers
		defer r.queue.ShutDown()
		return r.follow(ctx)
	})
	return g.Wait()
}

// follow registers the handlers and takes them off when ctx ends.
func (r *runner) follow(ctx context.Context) error {
	logger := klog.FromContext(ctx)
	sources := []struct {
		what     string
		informer cache.SharedIndexInformer
		handler  cache.ResourceEventHandler
	}{
		{"nodes", r.informers.Nodes, handler(r.onNode, r.onNodeDelete)},
		{"pods", r.informers.Pods, handler(r.onPod, r.onPodDelete)},
		{"configmaps", r.informers.ConfigMaps, r.metadataHandler(r.ConfigMapKey)},
		{"secrets", r.informers.Secrets, r.metadataHandler(r.SecretKey)},
	}
	for _, s := range sources {
		registration, err := s.informer.AddEventHandlerWithOptions(s.handler, cache.HandlerOptions{Logger: &logger})
		if err != nil {
			return fmt.Errorf("follow %s: %w", s.what, err)
		}
		// An error here says that the informer has stopped, and with it the handler.
		defer func() { _ = s.informer.RemoveEventHandler(registration) }()
		select {
		case <-registration.HasSyncedChecker().Done():
		case <-ctx.Done():
			return nil
		}
	}
	r.sweep()
	r.synced.Store(true)
	<-ctx.Done()
	return nil
}

func handler[T any](set, deletion func(T)) cache.ResourceEventHandler {
	on := func(obj any) {
		if o, ok := obj.(T); ok {
			set(o)
		}
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    on,
		UpdateFunc: func(_, obj any) { on(obj) },
		DeleteFunc: func(obj any) {
			if o, ok := deleted[T](obj); ok {
				deletion(o)
			}
		},
	}
}

func (r *runner) metadataHandler(key func(namespace, name string) desired.Key) cache.ResourceEventHandler {
	return handler(func(m *metav1.PartialObjectMetadata) {
		r.apply(func(e *effects) { r.setMetadataLocked(e, key(m.Namespace, m.Name), &m.ObjectMeta) })
	}, func(m *metav1.PartialObjectMetadata) {
		r.apply(func(e *effects) { r.deleteMetadataLocked(e, key(m.Namespace, m.Name), &m.ObjectMeta) })
	})
}

func (r *runner) onNode(n *corev1.Node) {
	r.apply(func(e *effects) { r.setNodeLocked(e, n) })
}

func (r *runner) onNodeDelete(n *corev1.Node) {
	r.apply(func(e *effects) { r.deleteNodeLocked(e, n.Name) })
}

func (r *runner) onPod(p *corev1.Pod) {
	r.apply(func(e *effects) { r.setPodLocked(e, p) })
}

func (r *runner) onPodDelete(p *corev1.Pod) {
	r.apply(func(e *effects) { r.deletePodLocked(e, p) })
}

// apply changes the state and then does what the change asks for.
func (r *runner) apply(transition func(*effects)) {
	select {
	case <-r.ended:
		return
	default:
	}
	var e effects
	r.mu.Lock()
	transition(&e)
	r.mu.Unlock()
	for _, c := range e.changed {
		r.delivery.Changed(c.node, c.key)
	}
	for _, key := range e.read {
		r.queue.Add(key)
	}
}

// sweep corrects what a View that runs again missed between two runs: it drops what the caches no longer hold and reads
// again what was not read.
func (r *runner) sweep() {
	r.apply(func(e *effects) {
		for name, n := range r.nodes {
			if n.class != classUnknown && !exists(r.informers.Nodes.GetStore(), name) {
				r.deleteNodeLocked(e, name)
			}
		}
		for key, p := range r.pods {
			switch {
			case !exists(r.informers.Pods.GetStore(), key.Namespace+"/"+key.Name):
				r.dropPodLocked(e, p)
			case !p.current() && p.node.class == classEdge:
				e.read = append(e.read, key)
			}
		}
		for key, c := range r.configs {
			switch {
			case c.version != "" && !exists(r.metadata(key).GetStore(), key.Namespace+"/"+key.Name):
				r.deleteMetadataLocked(e, key, &metav1.ObjectMeta{UID: c.uid})
			case c.stale():
				e.read = append(e.read, key)
			}
		}
	})
}

func exists(store cache.Store, key string) bool {
	_, exists, err := store.GetByKey(key)
	return err == nil && exists
}
