package app

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"k8s.io/klog/v2"
)

// Signals returns a context that ends with the first SIGINT, SIGTERM or SIGHUP (spec 01 §14: SIGHUP has never been a
// reload). The second one calls exit with 1 at once. SIGQUIT keeps its meaning in Go, a dump of all stacks. stop ends
// the watch and waits for it.
func Signals(parent context.Context, exit func(code int)) (_ context.Context, stop func()) {
	received := make(chan os.Signal, 2)
	signal.Notify(received, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	ctx, end := onSignals(parent, received, exit)
	return ctx, func() {
		signal.Stop(received)
		end()
	}
}

func onSignals(parent context.Context, received <-chan os.Signal, exit func(int)) (context.Context, func()) {
	logger := klog.FromContext(parent)
	ctx, cancel := context.WithCancel(parent)
	over, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		select {
		case s := <-received:
			logger.Info("Received a signal, stopping; another one ends the process at once", "signal", s.String())
			cancel()
		case <-over:
			return
		}
		select {
		case s := <-received:
			logger.Info("Received another signal, giving up the orderly stop", "signal", s.String())
			klog.Flush()
			exit(1)
		case <-over:
		}
	}()
	return ctx, func() {
		cancel()
		close(over)
		<-done
	}
}
