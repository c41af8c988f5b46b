package pki

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/klog/v2"
)

const (
	apiTimeout = 10 * time.Second // of one call to the apiserver

	// maxRaces is how often another writer may come first before we give up. Each lost race means that somebody
	// else stored something, so two or three are already unusual.
	maxRaces = 10
)

// secretStore writes Secrets without ever losing what another replica or an operator put there.
type secretStore struct {
	client    kubernetes.Interface
	namespace string
}

// ensureNamespace creates the namespace when it does not exist. Whoever may not read namespaces finds out with the
// first Secret whether it is there.
func (s secretStore) ensureNamespace(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	_, err := s.client.CoreV1().Namespaces().Get(ctx, s.namespace, metav1.GetOptions{})
	switch {
	case err == nil:
		return nil
	case apierrors.IsForbidden(err):
		klog.FromContext(ctx).V(2).Info("Namespace not readable, assumed to exist", "namespace", s.namespace)
		return nil
	case !apierrors.IsNotFound(err):
		return fmt.Errorf("get namespace %s: %w", s.namespace, err)
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.namespace}}
	_, err = s.client.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create namespace %s: %w", s.namespace, err)
	}
	return nil
}

// A decision looks at the data of a Secret (nil when there is no Secret) and returns what it stands for from now on,
// with the data keys that must be written for that to be true; none when all is well. It may be asked again with newer
// data, and must not keep anything from an earlier call.
type decision[T any] func(current map[string][]byte) (T, map[string][]byte, error)

// settle asks for a decision and stores it. A Secret that somebody else created or changed in between is read again
// and decided anew, so concurrent replicas end with one value. Only the named data keys are touched.
func settle[T any](ctx context.Context, s secretStore, name string, decide decision[T]) (T, error) {
	var zero T
	for range maxRaces {
		current, err := s.get(ctx, name)
		if err != nil {
			return zero, err
		}
		var data map[string][]byte
		if current != nil {
			data = current.Data
		}
		value, changes, err := decide(data)
		if err != nil {
			return zero, fmt.Errorf("secret %s/%s: %w", s.namespace, name, err)
		}
		if len(changes) == 0 {
			return value, nil
		}
		stored, err := s.write(ctx, name, current, changes)
		if err != nil {
			return zero, err
		}
		if stored {
			return value, nil
		}
	}
	return zero, fmt.Errorf("secret %s/%s: changed by others %d times in a row", s.namespace, name, maxRaces)
}

func (s secretStore) get(ctx context.Context, name string) (*corev1.Secret, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	secret, err := s.client.CoreV1().Secrets(s.namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("get secret %s/%s: %w", s.namespace, name, err)
	}
	return secret, nil
}

// write reports false when somebody else was faster.
func (s secretStore) write(ctx context.Context, name string, current *corev1.Secret, changes map[string][]byte) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	secrets := s.client.CoreV1().Secrets(s.namespace)
	if current == nil {
		secret := &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name},
			Type:       corev1.SecretTypeOpaque,
			Data:       changes,
		}
		_, err := secrets.Create(ctx, secret, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("create secret %s/%s: %w", s.namespace, name, err)
		}
		return true, nil
	}
	secret := current.DeepCopy()
	if secret.Data == nil {
		secret.Data = make(map[string][]byte, len(changes))
	}
	for key, value := range changes {
		secret.Data[key] = value
	}
	// The resourceVersion that was read goes along: a change by somebody else makes this a conflict.
	_, err := secrets.Update(ctx, secret, metav1.UpdateOptions{})
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("update secret %s/%s: %w", s.namespace, name, err)
	}
	return true, nil
}
