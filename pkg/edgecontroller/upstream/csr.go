package upstream

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	certificatesv1 "k8s.io/api/certificates/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

const csrResource = "certificatesigningrequests"

func csrKind() schema.GroupVersionKind {
	return certificatesv1.SchemeGroupVersion.WithKind("CertificateSigningRequest")
}

// insertCSR creates a request for a certificate of the kubelet on the node, and no other.
func (m *Module) insertCSR(ctx context.Context, r *request) (reply, error) {
	csr := &certificatesv1.CertificateSigningRequest{}
	if err := r.DecodeContent(csr); err != nil {
		return reply{}, invalid(fmt.Errorf("certificate signing request: %w", err))
	}
	if err := kubeletRequest(&csr.Spec, r.Node); err != nil {
		return reply{}, apierrors.NewForbidden(certificatesv1.Resource(csrResource), r.path.Name, err)
	}
	csr.ObjectMeta = metav1.ObjectMeta{Name: r.path.Name, Labels: csr.Labels, Annotations: csr.Annotations}
	csr.Status = certificatesv1.CertificateSigningRequestStatus{}
	got, err := m.client.CertificatesV1().CertificateSigningRequests().Create(m.as(ctx, r), csr, metav1.CreateOptions{})
	if err != nil {
		return reply{}, err
	}
	return object(got, csrKind())
}

func (m *Module) queryCSR(ctx context.Context, r *request) (reply, error) {
	got, err := m.client.CertificatesV1().CertificateSigningRequests().Get(ctx, r.path.Name, metav1.GetOptions{})
	if err != nil {
		return reply{}, err
	}
	if err := kubeletRequest(&got.Spec, r.Node); err != nil {
		return reply{}, apierrors.NewForbidden(certificatesv1.Resource(csrResource), r.path.Name, err)
	}
	return bare(got, csrKind())
}

// kubeletRequest checks that a request is for a certificate of the kubelet on the node.
func kubeletRequest(spec *certificatesv1.CertificateSigningRequestSpec, node string) error {
	switch spec.SignerName {
	case certificatesv1.KubeletServingSignerName, certificatesv1.KubeAPIServerClientKubeletSignerName:
	default:
		return fmt.Errorf("signer %q is not one of the kubelet", spec.SignerName)
	}
	block, _ := pem.Decode(spec.Request)
	if block == nil {
		return errors.New("spec.request holds no PEM block")
	}
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return fmt.Errorf("spec.request: %w", err)
	}
	if request.Subject.CommonName != "system:node:"+node || !slices.Equal(request.Subject.Organization, []string{"system:nodes"}) {
		return fmt.Errorf("spec.request is not for node %q", node)
	}
	return nil
}
