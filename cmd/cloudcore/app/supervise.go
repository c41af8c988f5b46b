package app

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
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
	// Ready returns nil once the module does its work, otherwise what it waits for.
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

// supervisor runs stages of modules: a stage starts when the one before is ready, and stops before it.
type supervisor struct {
	restarts *prometheus.CounterVec
	// stageTimeout bounds how long a stage may take to stop.
	stageTimeout time.Duration

	mu      sync.Mutex // guards the fields below
	running []*supervised
}

type supervised struct {
	Module
	mu   sync.Mutex // guards down
	down error      // why the module does not run; nil while it does
}

const (
	readyPoll      = 20 * time.Millisecond
	restartMin     = time.Second
	restartMax     = time.Minute
	defaultStaging = 10 * time.Second
)

func newSupervisor(reg prometheus.Registerer) (*supervisor, error) {
	s := &supervisor{stageTimeout: defaultStaging, restarts: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "cloudcore_module_restarts_total", Help: "Modules that failed and were started again, by module.",
	}, []string{"module"})}
	if err := reg.Register(s.restarts); err != nil {
		return nil, fmt.Errorf("register supervisor metrics: %w", err)
	}
	return s, nil
}

// checks are the readiness of all modules that were started.
func (s *supervisor) checks() []monitor.Check {
	s.mu.Lock()
	defer s.mu.Unlock()
	checks := make([]monitor.Check, 0, len(s.running))
	for _, m := range s.running {
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

// run starts the stages in order, calls started when all are ready, and stops them in reverse order when ctx ends. A
// module that fails before it was ever ready ends everything; later it is started again after a pause.
func (s *supervisor) run(ctx context.Context, stages [][]Module, started func()) error {
	logger := klog.FromContext(ctx)
	var stops []func()
	defer func() {
		for i := len(stops) - 1; i >= 0; i-- {
			stops[i]()
		}
	}()
	failed := make(chan error, 1)
	for _, stage := range stages {
		stops = append(stops, s.start(ctx, stage, failed))
		if err := s.await(ctx, stage, failed); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
	logger.Info("All modules are ready")
	started()
	<-ctx.Done()
	logger.Info("Stopping")
	return nil
}

// start runs the modules of a stage and returns a function that stops them and waits.
func (s *supervisor) start(ctx context.Context, stage []Module, failed chan<- error) (stop func()) {
	// Stages end in order, not all at once when ctx does.
	sctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	for _, m := range stage {
		sm := &supervised{Module: m}
		s.mu.Lock()
		s.running = append(s.running, sm)
		s.mu.Unlock()
		s.restarts.WithLabelValues(m.Name())
		wg.Go(func() { s.keep(sctx, sm, failed) })
	}
	return func() {
		cancel()
		done := make(chan struct{})
		go func() { wg.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(s.stageTimeout):
			klog.FromContext(ctx).Error(nil, "Modules did not stop in time", "timeout", s.stageTimeout)
		}
	}
}

// await returns when all modules of the stage are ready.
func (s *supervisor) await(ctx context.Context, stage []Module, failed <-chan error) error {
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	told := time.Now()
	for {
		var waiting []string
		var last error
		for _, m := range stage {
			if err := m.Ready(); err != nil {
				waiting, last = append(waiting, m.Name()), err
			}
		}
		if len(waiting) == 0 {
			select {
			case err := <-failed:
				return err
			default:
				return nil
			}
		}
		if time.Since(told) > 5*time.Second {
			told = time.Now()
			klog.FromContext(ctx).Info("Waiting for modules", "modules", waiting, "reason", last.Error())
		}
		select {
		case <-tick.C:
		case err := <-failed:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// keep runs one module again and again until ctx ends.
func (s *supervisor) keep(ctx context.Context, m *supervised, failed chan<- error) {
	logger := klog.FromContext(ctx)
	pause, everReady := restartMin, false
	for {
		begun := time.Now()
		err := runRecovered(ctx, m)
		everReady = everReady || m.Ready() == nil || time.Since(begun) > time.Minute
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errors.New("ended without a reason")
		}
		err = fmt.Errorf("module %s: %w", m.Name(), err)
		m.setDown(err)
		if !everReady {
			select {
			case failed <- err:
			default:
			}
			return
		}
		if time.Since(begun) > restartMax {
			pause = restartMin
		}
		logger.Error(err, "Module failed, will be started again", "module", m.Name(), "after", pause)
		s.restarts.WithLabelValues(m.Name()).Inc()
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
		pause = min(2*pause, restartMax)
		m.setDown(nil)
	}
}

func runRecovered(ctx context.Context, m Module) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return m.Run(ctx)
}
