package records

import (
	"context"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"

	"github.com/cloudcore-io/cloudcore/pkg/apis/reliablesyncs/v1alpha1"
	"github.com/cloudcore-io/cloudcore/pkg/cloudhub/delivery"
	"github.com/cloudcore-io/cloudcore/pkg/generated/clientset/versioned"
)

// source lists and watches one of the two kinds of records.
type source interface {
	listWatch() *cache.ListWatch
	example() runtime.Object
	cluster() bool
}

type namespacedSource struct{ client versioned.Interface }

func (n namespacedSource) example() runtime.Object { return &v1alpha1.ObjectSync{} }
func (n namespacedSource) cluster() bool           { return false }
func (n namespacedSource) listWatch() *cache.ListWatch {
	c := n.client.ReliablesyncsV1alpha1().ObjectSyncs(metav1.NamespaceAll)
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return c.List(ctx, o) },
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return c.Watch(ctx, o)
		},
	}
}

type clusterSource struct{ client versioned.Interface }

func (n clusterSource) example() runtime.Object { return &v1alpha1.ClusterObjectSync{} }
func (n clusterSource) cluster() bool           { return true }
func (n clusterSource) listWatch() *cache.ListWatch {
	c := n.client.ReliablesyncsV1alpha1().ClusterObjectSyncs()
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return c.List(ctx, o) },
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return c.Watch(ctx, o)
		},
	}
}

// reflect keeps the table equal to the records of one kind until ctx ends.
func (s *Store) reflect(ctx context.Context, src source) error {
	lw := cache.ToListWatcherWithWatchListSemantics(src.listWatch(), s.client)
	r := cache.NewReflectorWithOptions(lw, src.example(), &table{store: s, cluster: src.cluster()}, cache.ReflectorOptions{
		Name: "records",
	})
	r.RunWithContext(ctx)
	return nil
}

// table is the side of a Store that a reflector writes to.
type table struct {
	store   *Store
	cluster bool
}

// seen is one record as kube-apiserver has it.
type seen struct {
	meta   *metav1.ObjectMeta
	spec   *v1alpha1.ObjectSyncSpec
	status *v1alpha1.ObjectSyncStatus
}

func unpack(obj any) (seen, error) {
	switch o := obj.(type) {
	case *v1alpha1.ObjectSync:
		return seen{&o.ObjectMeta, &o.Spec, &o.Status}, nil
	case *v1alpha1.ClusterObjectSync:
		return seen{&o.ObjectMeta, &o.Spec, &o.Status}, nil
	}
	return seen{}, fmt.Errorf("%T is not a record", obj)
}

// Add implements cache.ReflectorStore.
func (t *table) Add(obj any) error { return t.Update(obj) }

// Update implements cache.ReflectorStore.
func (t *table) Update(obj any) error {
	o, err := unpack(obj)
	if err != nil {
		return err
	}
	s := t.store
	s.mu.Lock()
	node, _, fresh := s.observe(o)
	s.mu.Unlock()
	if fresh != nil {
		s.seen(node, *fresh)
	}
	return nil
}

// Delete implements cache.ReflectorStore.
func (t *table) Delete(obj any) error {
	if d, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = d.Obj
	}
	o, err := unpack(obj)
	if err != nil {
		return err
	}
	s := t.store
	s.mu.Lock()
	defer s.mu.Unlock()
	i := id{o.meta.Namespace, o.meta.Name}
	node, _ := i.nodeAndUID()
	if r := s.nodes[node][i]; r != nil && !newer(r.resourceVersion, o.meta.ResourceVersion) {
		s.gone(r)
	}
	return nil
}

// Replace implements cache.ReflectorStore: the result of a list.
func (t *table) Replace(objects []any, listVersion string) error {
	s := t.store
	var fresh []delivery.Record
	var nodes []string
	s.mu.Lock()
	listed := make(map[*record]struct{}, len(objects))
	for _, obj := range objects {
		o, err := unpack(obj)
		if err != nil {
			s.mu.Unlock()
			return err
		}
		node, r, f := s.observe(o)
		listed[r] = struct{}{}
		if f != nil && s.synced[t.cluster] { // before, no session has read the table
			nodes, fresh = append(nodes, node), append(fresh, *f)
		}
	}
	for _, records := range s.nodes {
		for _, r := range records {
			if _, ok := listed[r]; !ok && r.cluster() == t.cluster && !r.busy && !newer(r.resourceVersion, listVersion) {
				s.gone(r)
			}
		}
	}
	s.synced[t.cluster] = true
	s.mu.Unlock()
	for i := range fresh {
		s.seen(nodes[i], fresh[i])
	}
	return nil
}

// Resync implements cache.ReflectorStore.
func (t *table) Resync() error { return nil }

// observe takes over what kube-apiserver has. It returns the record for the engine if it is news.
func (s *Store) observe(o seen) (node string, r *record, fresh *delivery.Record) {
	i := id{o.meta.Namespace, o.meta.Name}
	node, _ = i.nodeAndUID()
	r = s.entry(node, i)
	if r.kind == nil {
		r.apiVersion, r.kindName, r.object = o.spec.ObjectAPIVersion, o.spec.ObjectKind, o.spec.ObjectName
		// Records of old releases have kinds in lower case and no apiVersion (spec 03 §9.1).
		if k := s.kinds[strings.ToLower(r.kindName)]; k != nil && (r.apiVersion == "" || r.apiVersion == k.APIVersion) && k.ClusterScoped == r.cluster() {
			r.kind = k
		}
	}
	known := r.exists || r.busy || r.want.present || r.want.absent
	if r.exists && newer(r.resourceVersion, o.meta.ResourceVersion) {
		return node, r, nil // our own answer was faster than the watch
	}
	r.exists, r.resourceVersion, r.version = true, o.meta.ResourceVersion, o.status.ObjectResourceVersion
	if !known && r.kind != nil {
		d := r.delivery()
		fresh = &d
	}
	return node, r, fresh
}

// gone notes that kube-apiserver doesn't have the record any more. If it should exist, it is made again: somebody
// deleted it by hand.
func (s *Store) gone(r *record) {
	if !r.exists {
		return
	}
	r.exists, r.resourceVersion, r.version = false, "", ""
	if r.want.present {
		s.enqueue(s.writes, r)
		return
	}
	s.tidy(r)
}
