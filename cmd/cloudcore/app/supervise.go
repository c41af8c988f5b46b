package app

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/klog/v2"

	"github.com/cloudcore-io/cloudcore/pkg/monitor"
)

// Module is a part of cloudcore with a life of its own.
type Module interface {
	// Name is unique in the process.
	Name() string
	// Run works until ctx ends and returns nil then, after everything that it started is gone. Any other return is a
	// failure. It may be called again after it returned.
	Run(ctx context.Context) error
	// Ready returns nil once the module does its work, otherwise what it waits for. It is quick and safe for
	// concurrent use, before, while and after Run runs.
	Ready() error
}

// part makes a Module of functions.
type part struct {
	name  string
	run   func(context.Context) error
	ready func() error
}

func (p part) Name() string                  { return p.name }
func (p part) Run(ctx context.Context) error { return p.run(ctx) }
func (p part) Ready() error {
	if p.ready == nil {
		return nil
	}
	return p.ready()
}

const (
	readyPoll  = 20 * time.Millisecond
	tellPeriod = 5 * time.Second // how often a start that waits says for what
	restartMin = time.Second
	restartMax = time.Minute // also the life after which a module counts as sound again
	// stopTimeout is for all stages together; after it all are stopped at once, and have lastGrace for it. A pod is
	// killed after 30 s.
	stopTimeout = 25 * time.Second
	lastGrace   = time.Second
)

// errStopping is why nothing is ready any more once cloudcore stops.
var errStopping = errors.New("cloudcore is stopping")

// supervisor runs stages of modules: a stage starts when the one before is ready, and stops before it.
//
// A module that fails before it was ever ready ends the start: the operator, or kubelet, sees an exit with the reason.
// Once it was ready, a failure costs readiness and a restart with backoff, never the process.
type supervisor struct {
	restarts *prometheus.CounterVec
	ready    *prometheus.Desc
	stopping atomic.Bool

	mu      sync.Mutex // guards modules
	modules []*supervised
}

// supervised is a module with what the supervisor knows of it.
type supervised struct {
	Module
	gone chan struct{} // closed when its goroutine has ended

	mu       sync.Mutex // guards the fields below
	down     error      // why the module does not run; nil while it does
	wasReady bool
}

// newSupervisor registers its metrics; a nil reg does without.
func newSupervisor(reg prometheus.Registerer) (*supervisor, error) {
	s := &supervisor{
		restarts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cloudcore_module_restarts_total", Help: "Modules that failed and were started again, by module.",
		}, []string{"module"}),
		ready: prometheus.NewDesc("cloudcore_module_ready", "Whether a module does its work (1) or not (0), by module.", []string{"module"}, nil),
	}
	if reg != nil {
		if err := errors.Join(reg.Register(s.restarts), reg.Register(s)); err != nil {
			return nil, fmt.Errorf("register supervisor metrics: %w", err)
		}
	}
	return s, nil
}

// Describe and Collect make the supervisor a collector: readiness is asked for at each scrape.
func (s *supervisor) Describe(ch chan<- *prometheus.Desc) { ch <- s.ready }

// Collect asks every module.
func (s *supervisor) Collect(ch chan<- prometheus.Metric) {
	for _, m := range s.started() {
		value := 0.0
		if m.check() == nil {
			value = 1
		}
		ch <- prometheus.MustNewConstMetric(s.ready, prometheus.GaugeValue, value, m.Name())
	}
}

func (s *supervisor) started() []*supervised {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.modules)
}

// checks are the readiness of all modules that were started, and of the process as a whole.
func (s *supervisor) checks() []monitor.Check {
	checks := []monitor.Check{{Name: "shutdown", Ready: func() error {
		if s.stopping.Load() {
			return errStopping
		}
		return nil
	}}}
	for _, m := range s.started() {
		checks = append(checks, monitor.Check{Name: m.Name(), Ready: m.check})
	}
	return checks
}

func (m *supervised) check() error {
	m.mu.Lock()
	down := m.down
	m.mu.Unlock()
	if down != nil {
		return down
	}
	return m.Ready()
}

func (m *supervised) setDown(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down = err
}

// settle reports whether the module was ever ready, and remembers it.
func (m *supervised) settle() bool {
	now := m.Ready() == nil
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wasReady = m.wasReady || now && m.down == nil
	return m.wasReady
}

// stage is a group of modules that start and stop together.
type stage struct {
	modules []*supervised
	cancel  context.CancelFunc
	failed  chan error // room for each module
}

// run starts the stages in order, calls started when all are ready, and stops them in reverse order when ctx ends. It
// returns an error if the start failed or the stop took too long.
func (s *supervisor) run(ctx context.Context, stages [][]Module, started func()) (err error) {
	logger := klog.FromContext(ctx)
	var running []*stage
	defer func() {
		s.stopping.Store(true)
		logger.Info("Stopping")
		err = errors.Join(err, stopAll(context.WithoutCancel(ctx), running))
		logger.Info("Stopped")
	}()
	for _, modules := range stages {
		st := s.start(ctx, modules)
		running = append(running, st)
		if err := st.await(ctx); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
	}
	logger.Info("All modules are ready")
	started()
	<-ctx.Done()
	return nil
}

// start runs the modules of a stage.
func (s *supervisor) start(ctx context.Context, modules []Module) *stage {
	// Stages end in order, not all at once when ctx does.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	st := &stage{cancel: cancel, failed: make(chan error, len(modules))}
	for _, m := range modules {
		sm := &supervised{Module: m, gone: make(chan struct{})}
		st.modules = append(st.modules, sm)
		s.restarts.WithLabelValues(m.Name())
		go func() {
			defer close(sm.gone)
			s.keep(ctx, sm, st.failed)
		}()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.modules = append(s.modules, st.modules...)
	return st
}

// await returns when all modules of the stage are ready, or ctx ended, or with the reason why one never will be.
func (st *stage) await(ctx context.Context) error {
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	told := time.Now()
	for {
		var waiting []string
		for _, m := range st.modules {
			if !m.settle() {
				waiting = append(waiting, m.Name())
			}
		}
		if len(waiting) == 0 {
			return nil
		}
		if time.Since(told) > tellPeriod {
			told = time.Now()
			for _, m := range st.modules {
				if err := m.check(); err != nil {
					klog.FromContext(ctx).Info("Waiting for a module", "module", m.Name(), "reason", err)
				}
			}
		}
		select {
		case err := <-st.failed:
			return err
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// stopAll stops the stages, the last first, within one deadline for all. Who doesn't obey is named.
func stopAll(ctx context.Context, stages []*stage) error {
	inOrder, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	for _, st := range slices.Backward(stages) {
		st.cancel() // also when the deadline is over
		st.wait(inOrder)
	}
	last, cancel := context.WithTimeout(ctx, lastGrace)
	defer cancel()
	var late []string
	for _, st := range stages {
		late = append(late, st.wait(last)...)
	}
	if len(late) > 0 {
		return fmt.Errorf("modules did not stop within %s: %s", stopTimeout, strings.Join(late, ", "))
	}
	return nil
}

// wait returns when the modules are gone or ctx has ended, and who isn't gone.
func (st *stage) wait(ctx context.Context) (late []string) {
	for _, m := range st.modules {
		select {
		case <-m.gone:
			continue
		default:
		}
		select {
		case <-m.gone:
		case <-ctx.Done():
			late = append(late, m.Name())
		}
	}
	return late
}

// keep runs one module again and again until ctx ends.
func (s *supervisor) keep(ctx context.Context, m *supervised, failed chan<- error) {
	logger := klog.FromContext(ctx)
	pause := restartMin
	for {
		begun := time.Now()
		err := runRecovered(ctx, m)
		if ctx.Err() != nil {
			if err != nil && !errors.Is(err, context.Canceled) {
				withStack(logger, err).Error(err, "Module stopped with an error", "module", m.Name())
			}
			return
		}
		if err == nil {
			err = errors.New("ended by itself")
		}
		err = fmt.Errorf("module %s: %w", m.Name(), err)
		sound := m.settle()
		m.setDown(err)
		if !sound {
			withStack(logger, err).Error(err, "Module could not start", "module", m.Name())
			failed <- err // has room
			return
		}
		if time.Since(begun) > restartMax {
			pause = restartMin
		}
		withStack(logger, err).Error(err, "Module failed, will be started again", "module", m.Name(), "after", pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
		s.restarts.WithLabelValues(m.Name()).Inc()
		pause = min(2*pause, restartMax)
		m.setDown(nil)
	}
}

// panicError is a panic as an error; the stack is for the log only.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }

func withStack(logger klog.Logger, err error) klog.Logger {
	var p *panicError
	if errors.As(err, &p) {
		return logger.WithValues("stack", string(p.stack))
	}
	return logger
}

func runRecovered(ctx context.Context, m Module) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &panicError{value: p, stack: debug.Stack()}
		}
	}()
	return m.Run(ctx)
}
