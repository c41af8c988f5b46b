package enroll

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"k8s.io/klog/v2"

	"github.com/cloudcore-io/cloudcore/pkg/cloudhub/pki"
)

// Headers of a join (spec 02 §6.1).
const (
	headerNodeName = "Nodename"
	headerUsages   = "Extkeyusages"
)

const (
	maxName   = 253 // of anything that Kubernetes names
	maxUsages = 16  // crypto/x509 knows fourteen
)

// A refusal carries the finished answer through the steps of a join.
type refusal struct{ answer reply }

func (e *refusal) Error() string { return string(e.answer.body) }

func refuse(code int, reason pki.Reason, format string, args ...any) error {
	answer := text(code, format, args...)
	answer.refused = reason
	return &refusal{answer}
}

// nodeCertificate signs the request of a node that proved who it is.
func (s *Server) nodeCertificate(r *http.Request) reply {
	node := r.Header.Get(headerNodeName)
	shown, err := s.admit(r, node)
	if err != nil {
		return answerTo(r, err, "Node certificate not issued", "signing failed")
	}
	der, err := s.sign(r, node)
	if err != nil {
		return answerTo(r, err, "Node certificate not issued", "signing failed")
	}
	s.metrics.issued.WithLabelValues(string(shown)).Inc()
	klog.FromContext(r.Context()).V(2).Info("Node certificate issued", "node", node, "credential", shown, "address", r.RemoteAddr)
	return reply{code: http.StatusOK, mimeType: certType, body: der}
}

// answerTo turns an error into the answer that it carries, or into 500 when it is a failure of ours.
func answerTo(r *http.Request, err error, message, public string) reply {
	var refused *refusal
	if errors.As(err, &refused) {
		return refused.answer
	}
	return internalError(r, err, message, public)
}

// admit decides whether the asker may act as node. Whoever shows a certificate is judged by it alone; a token beside a
// bad certificate does not help (spec 02 §6.1).
func (s *Server) admit(r *http.Request, node string) (credential, error) {
	if r.TLS != nil && len(r.TLS.PeerCertificates) != 0 {
		return s.admitCertificate(r, node)
	}
	return s.admitToken(r.Header.Get("Authorization"), node)
}

func (s *Server) admitToken(authorization, node string) (credential, error) {
	const failure = "token validation failure, "
	if authorization == "" {
		return "", refuse(http.StatusUnauthorized, reasonNoCredentials, failure+"token is empty")
	}
	scheme, token, ok := strings.Cut(authorization, " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") || token == "" || strings.Contains(token, " ") {
		return "", refuse(http.StatusUnauthorized, pki.ReasonTokenMalformed, failure+"want Bearer and a token")
	}
	claims, err := s.deps.Verifier.VerifyToken(token)
	var refused *pki.RefusalError
	switch {
	case errors.As(err, &refused):
		return "", refuse(http.StatusUnauthorized, refused.Reason, failure+"%s", refused.Error())
	case err != nil:
		return "", fmt.Errorf("verify token: %w", err)
	case claims.Node != "" && claims.Node != node:
		return "", refuse(http.StatusUnauthorized, reasonNodeMismatch, failure+"token is for another node")
	}
	return byToken, nil
}

func (s *Server) admitCertificate(r *http.Request, node string) (credential, error) {
	const failure = "certificate validation failure, "
	peer, err := s.deps.Verifier.VerifyRenewal(r.TLS.PeerCertificates)
	var refused *pki.RefusalError
	switch {
	case errors.As(err, &refused):
		return "", refuse(http.StatusUnauthorized, refused.Reason, failure+"%s", refused.Error())
	case err != nil:
		return "", fmt.Errorf("verify certificate: %w", err)
	case !peer.MayActAs(node):
		return "", refuse(http.StatusUnauthorized, reasonNodeMismatch, failure+"certificate is for another node")
	}
	shown := byCertificate
	switch {
	case peer.Expired:
		shown = byExpired
	case peer.Legacy:
		shown = byLegacy
	default:
		return shown, nil
	}
	// Weaker proof than a current certificate of this node: it only keeps a node in the cluster, it adds none.
	exists, err := s.deps.Nodes.NodeExists(r.Context(), node)
	if err != nil {
		return "", fmt.Errorf("look up node %q: %w", shorten(node), err)
	}
	if !exists {
		return "", refuse(http.StatusUnauthorized, reasonNodeUnknown, failure+"this certificate is no proof for a node that does not exist")
	}
	return shown, nil
}

func (s *Server) sign(r *http.Request, node string) ([]byte, error) {
	usages, err := parseUsages(r.Header.Get(headerUsages))
	if err != nil {
		return nil, err
	}
	// EdgeCore sends the request as body of a GET.
	csr, err := readBody(r, pki.MaxRequest)
	if err != nil {
		code := http.StatusBadRequest
		if errors.Is(err, errTooLarge) {
			code = http.StatusRequestEntityTooLarge
		}
		return nil, refuse(code, reasonBody, "read certificate request: %s", err.Error())
	}
	der, err := s.deps.Issuer.IssueNodeCertificate(pki.NodeRequest{Node: node, CSR: csr, ExtKeyUsages: usages})
	var refused *pki.RefusalError
	if errors.As(err, &refused) {
		return nil, refuse(policyCode(refused.Reason), refused.Reason, "signing failed: %s", refused.Error())
	}
	return der, err
}

// policyCode gives what cannot be understood the code that the reference gives it (spec 02 §6); what is understood and
// forbidden did not exist there.
func policyCode(reason pki.Reason) int {
	switch reason {
	case pki.ReasonRequestMalformed:
		return http.StatusInternalServerError
	case pki.ReasonNodeName:
		return http.StatusBadRequest
	default:
		return http.StatusForbidden
	}
}

// parseUsages reads a JSON array of the numbers that crypto/x509 gives to extended key usages.
func parseUsages(header string) ([]x509.ExtKeyUsage, error) {
	if header == "" {
		return nil, nil
	}
	var usages []x509.ExtKeyUsage
	if err := json.Unmarshal([]byte(header), &usages); err != nil || len(usages) > maxUsages {
		return nil, refuse(http.StatusInternalServerError, pki.ReasonRequestUsages, "signing failed: header %s is not a list of numbers", headerUsages)
	}
	return usages, nil
}

var errTooLarge = errors.New("body is too large")

// readBody reads at most limit bytes.
func readBody(r *http.Request, limit int64) ([]byte, error) {
	if r.ContentLength > limit {
		return nil, errTooLarge
	}
	data, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, errTooLarge
	}
	return data, nil
}
