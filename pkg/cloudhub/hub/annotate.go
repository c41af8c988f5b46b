package hub

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
)

// Annotation is the key of the Node annotation that names the replica which holds the node, by IP (spec 02 §2.5).
const Annotation = "cloudcore"

// Annotator keeps the annotation of connected nodes equal to the address of this replica.
type Annotator struct {
	client  kubernetes.Interface
	nodes   cache.Store
	address string
	queue   workqueue.TypedRateLimitingInterface[string]
}

// annotators is how many nodes are annotated at the same time.
const annotators = 4

// NewAnnotator returns an annotator that reads Nodes from a cache and writes through client.
func NewAnnotator(client kubernetes.Interface, nodes cache.Store, address string) *Annotator {
	return &Annotator{client: client, nodes: nodes, address: address,
		queue: workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[string](time.Second, time.Minute))}
}

// Connected says that a node has a session here. It does not block.
func (a *Annotator) Connected(node string) { a.queue.Add(node) }

// Run writes annotations until ctx ends.
func (a *Annotator) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, a.queue.ShutDown)
	defer stop()
	var g errgroup.Group
	for range annotators {
		g.Go(func() error {
			for {
				node, shutdown := a.queue.Get()
				if shutdown {
					return nil
				}
				if err := a.annotate(ctx, node); err != nil && ctx.Err() == nil && a.queue.NumRequeues(node) < 5 {
					klog.FromContext(ctx).V(2).Info("Annotating a node failed, will retry", "node", node, "err", err)
					a.queue.AddRateLimited(node)
				} else {
					a.queue.Forget(node)
				}
				a.queue.Done(node)
			}
		})
	}
	return g.Wait()
}

// annotate patches the annotation if it differs. A node that is not registered yet gets it at its registration.
func (a *Annotator) annotate(ctx context.Context, node string) error {
	obj, exists, err := a.nodes.GetByKey(node)
	if err != nil || !exists {
		return err
	}
	if n, ok := obj.(*corev1.Node); ok && n.Annotations[Annotation] == a.address {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{Annotation: a.address}}})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	_, err = a.client.CoreV1().Nodes().Patch(ctx, node, types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("annotate node %s: %w", node, err)
	}
	return nil
}
