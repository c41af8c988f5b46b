package kube

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

// StripManagedFields is a transform that drops what nobody here reads and what is often half of
// an object. Annotations stay as they are, also the last applied configuration: objects go to
// edge nodes as the server has them.
func StripManagedFields(obj any) (any, error) {
	if m, err := meta.Accessor(obj); err == nil && len(m.GetManagedFields()) > 0 {
		m.SetManagedFields(nil)
	}
	return obj, nil
}

// Chain makes one transform of several, applied in order.
func Chain(transforms ...cache.TransformFunc) cache.TransformFunc {
	return func(obj any) (any, error) {
		for _, t := range transforms {
			var err error
			if obj, err = t(obj); err != nil {
				return nil, err
			}
		}
		return obj, nil
	}
}

// Need says what an incomplete informer means.
type Need int

const (
	// Required informers must be complete before the process is ready.
	Required Need = iota
	// Optional ones belong to a feature that degrades without them: old roles do not allow
	// them, old clusters do not have the resource.
	Optional
)

// errorPeriod is how often the same trouble of one informer is logged.
const errorPeriod = 5 * time.Minute

// Informers runs a set of shared informers: those that were added, and no others. It is a
// module: it blocks in Run until its informers are gone, and is ready when they are complete.
type Informers struct {
	name string

	mu      sync.Mutex // guards the fields below
	members []*member
	ran     bool
}

type member struct {
	resource string
	need     Need
	informer cache.SharedIndexInformer

	mu     sync.Mutex // guards the fields below
	err    error      // of the last list or watch; kept until the informer is complete
	class  string     // of err, for the log
	logged time.Time
}

// NewInformers returns an empty set.
func NewInformers(name string) *Informers { return &Informers{name: name} }

// Add puts an informer into the set, before it runs. resource names it in logs. A nil transform
// means StripManagedFields; any other must do that itself (see Chain).
func (i *Informers) Add(resource string, need Need, informer cache.SharedIndexInformer, transform cache.TransformFunc) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if slices.ContainsFunc(i.members, func(m *member) bool { return m.informer == informer }) {
		return nil // several modules share it
	}
	if i.ran {
		return fmt.Errorf("add informer of %s: the set is running", resource)
	}
	if transform == nil {
		transform = StripManagedFields
	}
	m := &member{resource: resource, need: need, informer: informer}
	if err := informer.SetTransform(transform); err != nil {
		return fmt.Errorf("set transform of %s: %w", resource, err)
	}
	if err := informer.SetWatchErrorHandlerWithContext(m.failed); err != nil {
		return fmt.Errorf("set error handler of %s: %w", resource, err)
	}
	i.members = append(i.members, m)
	return nil
}

// Name is the name of the set as a module.
func (i *Informers) Name() string { return i.name }

// Run runs the informers until ctx ends. It can be called once: informers cannot start again.
func (i *Informers) Run(ctx context.Context) error {
	i.mu.Lock()
	members, ran := i.members, i.ran
	i.ran = true
	i.mu.Unlock()
	if ran {
		return errors.New("informers cannot run twice")
	}
	var all sync.WaitGroup
	for _, m := range members {
		all.Go(func() { m.informer.RunWithContext(ctx) })
	}
	<-ctx.Done()
	all.Wait()
	return nil
}

// Ready names the required informers that are not complete, and why.
func (i *Informers) Ready() error {
	i.mu.Lock()
	members := i.members
	i.mu.Unlock()
	var waiting []string
	for _, m := range members {
		if m.need == Required && !m.informer.HasSynced() {
			waiting = append(waiting, m.trouble())
		}
	}
	if len(waiting) == 0 {
		return nil
	}
	return fmt.Errorf("waiting for %s", strings.Join(waiting, ", "))
}

func (m *member) trouble() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err == nil {
		return m.resource
	}
	return fmt.Sprintf("%s (%s)", m.resource, m.err)
}

// failed is called for each list or watch that ended with an error; the reflector goes on by
// itself, with backoff. The same trouble is logged once, then now and then.
func (m *member) failed(ctx context.Context, _ *cache.Reflector, err error) {
	logger := klog.FromContext(ctx)
	if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		logger.V(4).Info("Watch ended", "resource", m.resource, "reason", err)
		return
	}
	class := string(apierrors.ReasonForError(err))
	m.mu.Lock()
	m.err = err
	quiet := m.class == class && time.Since(m.logged) < errorPeriod
	if !quiet {
		m.class, m.logged = class, time.Now()
	}
	m.mu.Unlock()
	switch {
	case quiet:
		logger.V(4).Info("List or watch failed again", "resource", m.resource, "reason", err)
	case apierrors.IsForbidden(err):
		logger.Error(err, "Permission is missing: cloudcore's role needs list and watch; what depends on it does not work until then", "resource", m.resource)
	case apierrors.IsNotFound(err):
		logger.Error(err, "The cluster does not have this resource; install the custom resource definitions of this release", "resource", m.resource)
	default:
		logger.Error(err, "List or watch failed, trying again", "resource", m.resource)
	}
}
