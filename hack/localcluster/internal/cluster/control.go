package cluster

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/cloudcore-io/cloudcore/hack/localcluster/internal/pki"
	"github.com/cloudcore-io/cloudcore/hack/localcluster/internal/supervise"
)

const (
	headerTimeout = 5 * time.Second
	closeTimeout  = 2 * time.Second
)

// Status is what the control endpoint tells about a cluster.
type Status struct {
	Components []ComponentStatus `json:"components"`
}

// ComponentStatus is what the control endpoint tells about a component.
type ComponentStatus struct {
	Name     string          `json:"name"`
	State    supervise.State `json:"state"`
	PID      int             `json:"pid,omitempty"`
	Restarts int             `json:"restarts"`
	URL      string          `json:"url"`
	Log      string          `json:"log"`
}

// serveControl serves the control endpoint until ctx ends. It calls ready when the file that names it is written.
func (c *Cluster) serveControl(ctx context.Context, group *group, ready func()) error {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen for control: %w", err)
	}
	secret := "/" + rand.Text()
	server := &http.Server{
		Handler:           http.StripPrefix(secret, c.controlHandler(group)),
		ReadHeaderTimeout: headerTimeout,
		// Actions that wait for a component end with the cluster.
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	err = pki.WriteFile(c.dir.control(), []byte("http://"+listener.Addr().String()+secret+"\n"))
	if err == nil {
		ready()
		select {
		case <-ctx.Done():
			err = context.Cause(ctx)
		case err = <-failed:
			failed <- err
			err = fmt.Errorf("serve control: %w", err)
		}
	}
	stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	if server.Shutdown(stopCtx) != nil {
		// Whoever still waits for an answer has had the time to take it.
		_ = server.Close()
	}
	<-failed
	_ = os.Remove(c.dir.control())
	return err
}

func (c *Cluster) controlHandler(group *group) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		var status Status
		for _, m := range group.members {
			status.Components = append(status.Components, m.status())
		}
		answer(w, status)
	})
	mux.HandleFunc("POST /{component}/{action}", func(w http.ResponseWriter, r *http.Request) {
		m, found := group.find(r.PathValue("component"))
		if !found {
			http.Error(w, "no such component", http.StatusNotFound)
			return
		}
		action := supervise.Action(r.PathValue("action"))
		if !slices.Contains(supervise.Actions(), action) {
			http.Error(w, "no such action", http.StatusNotFound)
			return
		}
		if err := c.control(r.Context(), m, action); err != nil {
			http.Error(w, err.Error(), controlStatus(err))
			return
		}
		answer(w, m.status())
	})
	return mux
}

func (c *Cluster) control(ctx context.Context, m member, action supervise.Action) error {
	c.report("%s: %s", m.Name(), action)
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.StartTimeout,
		fmt.Errorf("not ready within %s", c.cfg.StartTimeout))
	defer cancel()
	return m.Do(ctx, action)
}

func controlStatus(err error) int {
	if errors.Is(err, supervise.ErrState) {
		return http.StatusConflict
	}
	return http.StatusInternalServerError
}

func (m member) status() ComponentStatus {
	s := m.Snapshot()
	return ComponentStatus{
		Name:     m.Name(),
		State:    s.State,
		PID:      s.PID,
		Restarts: s.Restarts,
		URL:      m.url,
		Log:      m.log,
	}
}

func answer(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	// A reader that has gone needs no answer.
	_ = json.NewEncoder(w).Encode(body)
}
