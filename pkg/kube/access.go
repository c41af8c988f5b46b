package kube

import (
	"context"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// Permission is something that a module does at kube-apiserver.
type Permission struct {
	Group, Resource, Subresource, Verb string
	// For says what needs it, in words for the log.
	For string
}

// String is the permission as in the rules of a role, for example "list devices.kubeedge.io/devicestatuses".
func (p Permission) String() string {
	s := p.Verb + " "
	if p.Group != "" {
		s += p.Group + "/"
	}
	s += p.Resource
	if p.Subresource != "" {
		s += "/" + p.Subresource
	}
	return s
}

// accessConcurrency bounds the questions that are open at once.
const accessConcurrency = 4

// MissingPermissions returns which of the permissions this process lacks, in the order given.
// It asks the server, one question each.
func MissingPermissions(ctx context.Context, client kubernetes.Interface, wanted []Permission) ([]Permission, error) {
	var mu sync.Mutex // guards denied
	denied := make(map[int]bool)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(accessConcurrency)
	for i, p := range wanted {
		g.Go(func() error {
			review, err := client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{
				Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{
					Group: p.Group, Resource: p.Resource, Subresource: p.Subresource, Verb: p.Verb,
				}},
			}, metav1.CreateOptions{})
			if err != nil {
				return fmt.Errorf("ask for permission to %s: %w", p, err)
			}
			if !review.Status.Allowed {
				mu.Lock()
				defer mu.Unlock()
				denied[i] = true
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var out []Permission
	for i, p := range wanted {
		if denied[i] {
			out = append(out, p)
		}
	}
	return out, nil
}

// EnsureNamespace creates the namespace if it isn't there. Not being allowed to look, or to
// create what exists, is no error: whoever needs the namespace will see.
func EnsureNamespace(ctx context.Context, client kubernetes.Interface, name string) error {
	_, err := client.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
	if err == nil || apierrors.IsForbidden(err) {
		return nil
	}
	if !apierrors.IsNotFound(err) {
		return fmt.Errorf("get namespace %s: %w", name, err)
	}
	_, err = client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create namespace %s: %w", name, err)
	}
	return nil
}
