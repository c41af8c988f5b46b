package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cloudcore-io/cloudcore/hack/localcluster/internal/supervise"
)

// member is one component of a running cluster.
type member struct {
	*supervise.Process
	url string
	log string
}

// group runs the members of a cluster. It is changed by startStage and stop only, which the same goroutine calls one
// after the other; in between it may be read by others.
type group struct {
	members []member
	stages  []stage
}

// stage is what starts and stops together.
type stage struct {
	cancel  context.CancelFunc
	running *sync.WaitGroup
}

func newGroup() *group { return &group{} }

// startStage runs members and returns when all are ready or one of them has failed to become so. They run until stop,
// not until ctx ends.
func (g *group) startStage(ctx context.Context, members []member, ready func(name string, took time.Duration)) error {
	runCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s := stage{cancel: cancel, running: &sync.WaitGroup{}}
	g.stages = append(g.stages, s)
	g.members = append(g.members, members...)
	for _, m := range members {
		s.running.Go(func() { m.Run(runCtx) })
	}

	begin := time.Now()
	errs := make([]error, len(members))
	var starts sync.WaitGroup
	for i, m := range members {
		starts.Go(func() {
			if errs[i] = startMember(ctx, m); errs[i] == nil {
				ready(m.Name(), time.Since(begin))
			}
		})
	}
	starts.Wait()
	return errors.Join(errs...)
}

func startMember(ctx context.Context, m member) error {
	err := m.Do(ctx, supervise.Start)
	if errors.Is(err, supervise.ErrExited) {
		return fmt.Errorf("%w; end of %s:\n%s", err, m.log, tailOf(m.log))
	}
	return err
}

// stop ends all members, stage after stage in the reverse order of their start, and returns when they are gone.
func (g *group) stop() {
	for i := len(g.stages) - 1; i >= 0; i-- {
		g.stages[i].cancel()
		g.stages[i].running.Wait()
	}
}

func (g *group) find(name string) (member, bool) {
	for _, m := range g.members {
		if m.Name() == name {
			return m, true
		}
	}
	return member{}, false
}
