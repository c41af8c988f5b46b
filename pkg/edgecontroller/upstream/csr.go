package upstream

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// insertCSR creates a request for a certificate of the kubelet on the node, and no other.
func (m *Module) insertCSR(ctx context.Context, r *request) (reply, error) {
	csr := &certificatesv1.CertificateSigningRequest{}
	if err := r.DecodeContent(csr); err != nil {
		return reply{}, invalid(fmt.Errorf("certificate signing request: %w", err))
	}
	if err := kubeletRequest(csr, r.Node); err != nil {
		return reply{}, invalid(err)
	}
	csr.Name = r.path.Name
	got, err := m.client.CertificatesV1().CertificateSigningRequests().Create(ctx, csr, metav1.CreateOptions{})
	if err != nil {
		return reply{}, err
	}
	got.ManagedFields = nil
	content, err := object(got)
	return reply{content: content}, err
}

func (m *Module) queryCSR(ctx context.Context, r *request) (reply, error) {
	got, err := m.client.CertificatesV1().CertificateSigningRequests().Get(ctx, r.path.Name, metav1.GetOptions{})
	if err != nil {
		return reply{}, err
	}
	if kubeletRequest(got, r.Node) != nil {
		return reply{}, forbidden(r)
	}
	got.ManagedFields = nil
	got.TypeMeta = metav1.TypeMeta{APIVersion: "certificates.k8s.io/v1", Kind: "CertificateSigningRequest"}
	return bare(got, got.ResourceVersion)
}

// kubeletRequest checks that a request is for the certificate of the kubelet on the node.
func kubeletRequest(csr *certificatesv1.CertificateSigningRequest, node string) error {
	switch csr.Spec.SignerName {
	case certificatesv1.KubeletServingSignerName, certificatesv1.KubeAPIServerClientKubeletSignerName:
	default:
		return fmt.Errorf("signer %q is not one of the kubelet", csr.Spec.SignerName)
	}
	block, _ := pem.Decode(csr.Spec.Request)
	if block == nil {
		return errors.New("spec.request holds no PEM block")
	}
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return fmt.Errorf("spec.request: %w", err)
	}
	if request.Subject.CommonName != "system:node:"+node {
		return fmt.Errorf("spec.request is not for node %q", node)
	}
	return nil
}
