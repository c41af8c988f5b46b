package kube

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// discoveryPeriod is the least time between two discoveries that unknown kinds cause: edges ask
// for kinds by name, and one asking again and again for a wrong one must not load the server.
const discoveryPeriod = 10 * time.Second

// mapper maps kinds to resources and notices kinds that are installed later: an unknown one is
// looked for again on the server, at most once in discoveryPeriod. The mapper of client-go
// never looks again.
type mapper struct {
	meta.ResettableRESTMapper

	mu         sync.Mutex // guards the fields below
	discovered time.Time  // when the last look began
	generation int        // counts the looks
}

func newMapper(inner meta.ResettableRESTMapper) *mapper {
	return &mapper{ResettableRESTMapper: inner, discovered: time.Now()}
}

// lookup asks, and asks once more if a newer state of the server may know the answer.
func lookup[T any](m *mapper, ask func() (T, error)) (T, error) {
	m.mu.Lock()
	before := m.generation
	m.mu.Unlock()
	answer, err := ask()
	if meta.IsNoMatchError(err) && m.renew(before) {
		answer, err = ask()
	}
	return answer, err
}

// renew forgets what was discovered, unless that is too fresh to be worth it. It reports
// whether something newer than generation before is there.
func (m *mapper) renew(before int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.generation != before {
		return true // someone else just did
	}
	if time.Since(m.discovered) < discoveryPeriod {
		return false
	}
	m.generation++
	m.discovered = time.Now()
	m.ResettableRESTMapper.Reset() // discovery itself happens at the next question
	return true
}

// Reset makes the next question discover again.
func (m *mapper) Reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.generation++
	m.discovered = time.Now()
	m.ResettableRESTMapper.Reset()
}

func (m *mapper) KindFor(r schema.GroupVersionResource) (schema.GroupVersionKind, error) {
	return lookup(m, func() (schema.GroupVersionKind, error) { return m.ResettableRESTMapper.KindFor(r) })
}

func (m *mapper) KindsFor(r schema.GroupVersionResource) ([]schema.GroupVersionKind, error) {
	return lookup(m, func() ([]schema.GroupVersionKind, error) { return m.ResettableRESTMapper.KindsFor(r) })
}

func (m *mapper) ResourceFor(r schema.GroupVersionResource) (schema.GroupVersionResource, error) {
	return lookup(m, func() (schema.GroupVersionResource, error) { return m.ResettableRESTMapper.ResourceFor(r) })
}

func (m *mapper) ResourcesFor(r schema.GroupVersionResource) ([]schema.GroupVersionResource, error) {
	return lookup(m, func() ([]schema.GroupVersionResource, error) { return m.ResettableRESTMapper.ResourcesFor(r) })
}

func (m *mapper) RESTMapping(gk schema.GroupKind, versions ...string) (*meta.RESTMapping, error) {
	return lookup(m, func() (*meta.RESTMapping, error) { return m.ResettableRESTMapper.RESTMapping(gk, versions...) })
}

func (m *mapper) RESTMappings(gk schema.GroupKind, versions ...string) ([]*meta.RESTMapping, error) {
	return lookup(m, func() ([]*meta.RESTMapping, error) { return m.ResettableRESTMapper.RESTMappings(gk, versions...) })
}

func (m *mapper) ResourceSingularizer(resource string) (string, error) {
	return lookup(m, func() (string, error) { return m.ResettableRESTMapper.ResourceSingularizer(resource) })
}
