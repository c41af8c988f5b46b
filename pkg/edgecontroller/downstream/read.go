package downstream

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"

	"github.com/cloudcore-io/cloudcore/pkg/desired"
)

// readLoop reads the objects of the queue. The queue hands out a key to one reader at a time.
func (r *runner) readLoop(ctx context.Context) {
	for {
		key, shutdown := r.queue.Get()
		if shutdown {
			return
		}
		result, err := r.read(ctx, key)
		r.metrics.reads.WithLabelValues(key.Kind.Type, result).Inc()
		switch {
		case ctx.Err() != nil:
		case result == readError:
			logFailure(klog.FromContext(ctx), err, key, r.queue.NumRequeues(key)+1)
			r.queue.AddRateLimited(key)
		case result == readBehind:
			r.queue.AddRateLimited(key)
		default:
			r.queue.Forget(key)
		}
		r.queue.Done(key)
	}
}

// alarmAfter is the number of failed reads of one object after which an operator should look: some seconds.
const alarmAfter = 6

func logFailure(logger klog.Logger, err error, key desired.Key, failures int) {
	if failures == alarmAfter {
		logger.Error(err, "Reading an object keeps failing, will retry", "object", key, "failures", failures)
		return
	}
	logger.V(2).Info("Reading an object failed, will retry", "object", key, "failures", failures, "err", err)
}

// read gets one object and takes it into the state.
func (r *runner) read(ctx context.Context, key desired.Key) (result string, err error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.ReadTimeout)
	defer cancel()
	if key.Kind == r.kind.pod {
		return r.readPod(ctx, key)
	}
	return r.readConfig(ctx, key)
}

func (r *runner) readPod(ctx context.Context, key desired.Key) (string, error) {
	wanted := func() (version string, ok bool) {
		p := r.pods[key]
		if p == nil || p.current() {
			return "", false
		}
		return p.version, true
	}
	r.mu.RLock()
	version, ok := wanted()
	r.mu.RUnlock()
	if !ok {
		return readUnused, nil
	}
	object, err := r.client.CoreV1().Pods(key.Namespace).Get(ctx, key.Name, notOlder(version))
	if apierrors.IsNotFound(err) { // the watch will show the deletion
		return readGone, nil
	}
	if err != nil {
		return readError, fmt.Errorf("get pod %s/%s: %w", key.Namespace, key.Name, err)
	}
	object.ManagedFields = nil
	result := readUnused
	r.apply(func(e *effects) {
		p := r.pods[key]
		version, ok := wanted()
		switch {
		case !ok || p.uid != object.UID || p.node.name != object.Spec.NodeName: // of a successor the watch will tell
		case older(object.ResourceVersion, version):
			result = readBehind
		default:
			result = readOK
			r.setPodLocked(e, object)
		}
	})
	return result, nil
}

func (r *runner) readConfig(ctx context.Context, key desired.Key) (string, error) {
	r.mu.RLock()
	c := r.configs[key]
	if c == nil || !c.stale() {
		r.mu.RUnlock()
		return readUnused, nil
	}
	version := c.version
	r.mu.RUnlock()

	read, err := r.getConfig(ctx, key, notOlder(version))
	if apierrors.IsNotFound(err) { // the watch will show the deletion
		return readGone, nil
	}
	if err != nil {
		return readError, fmt.Errorf("get %s %s/%s: %w", key.Kind.Type, key.Namespace, key.Name, err)
	}
	current := false
	r.apply(func(e *effects) { current = r.setContentLocked(e, key, read) })
	if !current {
		return readBehind, nil
	}
	return readOK, nil
}

func (r *runner) getConfig(ctx context.Context, key desired.Key, options metav1.GetOptions) (*content, error) {
	if key.Kind == r.kind.secret {
		secret, err := r.client.CoreV1().Secrets(key.Namespace).Get(ctx, key.Name, options)
		if err != nil {
			return nil, err
		}
		return secretContent(key.Kind, r.seed, secret)
	}
	configMap, err := r.client.CoreV1().ConfigMaps(key.Namespace).Get(ctx, key.Name, options)
	if err != nil {
		return nil, err
	}
	return configMapContent(key.Kind, r.seed, configMap)
}

// notOlder lets the apiserver answer from its cache, once that has reached the version which the watch has shown.
func notOlder(version string) metav1.GetOptions { return metav1.GetOptions{ResourceVersion: version} }
