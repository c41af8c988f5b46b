package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
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

// floor is an ordinary watch of pods: nothing that follows kube-apiserver can know of a pod much earlier.
type floor struct {
	watch watch.Interface
	ended chan struct{}
	mu    sync.Mutex // guards the fields below
	seen  map[string]time.Time
	over  bool // what comes now is how the watch ends
	err   error
}

// startFloor follows the pods that come from now on. The caller must stop it.
func startFloor(ctx context.Context, client kubernetes.Interface) (*floor, error) {
	pods := client.CoreV1().Pods(namespace)
	list, err := pods.List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return nil, fmt.Errorf("list pods: %w", err)
	}
	w, err := pods.Watch(ctx, metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	if err != nil {
		return nil, fmt.Errorf("watch pods: %w", err)
	}
	f := &floor{watch: w, ended: make(chan struct{}), seen: make(map[string]time.Time)}
	go f.run()
	return f, nil
}

func (f *floor) run() {
	defer close(f.ended)
	for ev := range f.watch.ResultChan() {
		at := time.Now()
		f.mu.Lock()
		switch object := ev.Object.(type) {
		case *corev1.Pod:
			if ev.Type == watch.Added {
				first(f.seen, object.Name, at)
			}
		default:
			if f.over {
				break
			}
			f.err = errors.Join(f.err, fmt.Errorf("watch of pods: %s: %T", ev.Type, object))
		}
		f.mu.Unlock()
	}
}

// stop ends the watch and returns when each pod was seen.
func (f *floor) stop() (map[string]time.Time, error) {
	f.mu.Lock()
	f.over = true
	f.mu.Unlock()
	f.watch.Stop()
	<-f.ended
	return f.seen, f.err
}
