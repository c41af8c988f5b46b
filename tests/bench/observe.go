package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"

	"github.com/cloudcore-io/cloudcore/tests/edgesim"
)

// arrivals remembers when things first came to the edges. It is safe for concurrent use.
type arrivals struct {
	mu      sync.Mutex // guards the fields below
	pods    map[string]time.Time
	configs map[delivery]time.Time
}

// delivery is a version of the shared ConfigMap at a node.
type delivery struct{ node, version string }

func newArrivals() *arrivals {
	return &arrivals{pods: make(map[string]time.Time), configs: make(map[delivery]time.Time)}
}

const (
	podPrefix  = namespace + "/pod/"
	configPath = namespace + "/configmap/" + configName
)

// push is what edges call for each push.
func (a *arrivals) push(node string, p edgesim.Push) {
	isPod := len(p.Resource) > len(podPrefix) && p.Resource[:len(podPrefix)] == podPrefix
	if !isPod && p.Resource != configPath {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if isPod {
		first(a.pods, p.Resource[len(podPrefix):], p.At)
	} else {
		first(a.configs, delivery{node, p.Version}, p.At)
	}
}

func first[K comparable](m map[K]time.Time, key K, at time.Time) {
	if _, ok := m[key]; !ok {
		m[key] = at
	}
}

// pod says when a pod came.
func (a *arrivals) pod(name string) (time.Time, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	at, ok := a.pods[name]
	return at, ok
}

// config says when a version of the ConfigMap came to each node that has it.
func (a *arrivals) config(version string) []time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []time.Time
	for d, at := range a.configs {
		if d.version == version {
			out = append(out, at)
		}
	}
	return out
}

// floor is an ordinary watch of pods: nothing that follows kube-apiserver can know of a pod much earlier. A watch that
// kube-apiserver ends, as it does to any that falls behind, goes on where it was.
type floor struct {
	client   kubernetes.Interface
	cancel   context.CancelFunc
	ended    chan struct{}
	version  string               // the newest that was seen; owned by run, as are the fields below until ended is closed
	seen     map[string]time.Time // by pod name
	restarts int
	err      error
}

// startFloor follows the pods that come from now on. The caller must stop it.
func startFloor(ctx context.Context, client kubernetes.Interface) (*floor, error) {
	list, err := client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return nil, fmt.Errorf("list pods: %w", err)
	}
	f := &floor{client: client, ended: make(chan struct{}), version: list.ResourceVersion, seen: make(map[string]time.Time)}
	ctx, f.cancel = context.WithCancel(ctx)
	w, err := f.open(ctx)
	if err != nil {
		f.cancel()
		return nil, err
	}
	go f.run(ctx, w)
	return f, nil
}

func (f *floor) open(ctx context.Context) (watch.Interface, error) {
	w, err := f.client.CoreV1().Pods(namespace).Watch(ctx, metav1.ListOptions{ResourceVersion: f.version, AllowWatchBookmarks: true})
	if err != nil {
		return nil, fmt.Errorf("watch pods: %w", err)
	}
	return w, nil
}

func (f *floor) run(ctx context.Context, w watch.Interface) {
	defer close(f.ended)
	for {
		err := f.follow(w)
		w.Stop()
		if err == nil && ctx.Err() == nil {
			f.restarts++
			w, err = f.open(ctx)
		}
		if ctx.Err() != nil {
			return // how the last watch ended is of no interest
		}
		if err != nil {
			f.err = err
			return
		}
	}
}

// follow reads a watch to its end.
func (f *floor) follow(w watch.Interface) error {
	for ev := range w.ResultChan() {
		at := time.Now()
		pod, ok := ev.Object.(*corev1.Pod)
		if !ok {
			return fmt.Errorf("watch pods: %s: %w", ev.Type, apierrors.FromObject(ev.Object))
		}
		f.version = pod.ResourceVersion
		if ev.Type == watch.Added {
			first(f.seen, pod.Name, at)
		}
	}
	return nil
}

// stop ends the watch. After it the fields may be read.
func (f *floor) stop() error {
	f.cancel()
	<-f.ended
	return f.err
}
