package edgesim

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// maxCertificateBody is what EdgeCore reads of an answer of the certificate server at most (spec 02 §8).
const maxCertificateBody = 1 << 20

// Failures of a join that trying again does not mend.
var (
	// ErrTokenRefused says that the cloud did not accept the token or certificate of a certificate request.
	ErrTokenRefused = errors.New("cloud refused the credentials")
	// ErrBadToken says that the token has not the form of one.
	ErrBadToken = errors.New("token is not made of four parts separated by dots")
	// ErrWrongCA says that the cloud is not the one that the token is for.
	ErrWrongCA = errors.New("certificate authority does not have the hash in the token")
)

// Join gets an identity for a node as EdgeCore does at its first start (spec 02 §8): fetch the authority without
// verification, compare its hash with the first part of the token, then send a certificate request with the rest of
// the token to the server so verified.
func Join(ctx context.Context, o Options) (*Identity, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	id, err := join(ctx, &o)
	if err != nil {
		return nil, fmt.Errorf("join node %s at %s: %w", o.Name, o.httpsAddress(), err)
	}
	return id, nil
}

func join(ctx context.Context, o *Options) (*Identity, error) {
	hash, bearer, ok := strings.Cut(strings.TrimSpace(o.Token), ".")
	if !ok || strings.Count(bearer, ".") != 2 {
		return nil, ErrBadToken
	}
	ctx, cancel := context.WithTimeout(ctx, o.Timing.Join)
	defer cancel()

	// The hash in the token replaces the verification of the server here.
	ca, err := get(ctx, o, &tls.Config{InsecureSkipVerify: true}, "/ca.crt", nil, nil) //nolint:gosec // see above
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(ca); !strings.EqualFold(hash, hex.EncodeToString(sum[:])) {
		return nil, fmt.Errorf("check answer of %d bytes to /ca.crt: %w", len(ca), ErrWrongCA)
	}
	authority, err := x509.ParseCertificate(ca)
	if err != nil {
		return nil, fmt.Errorf("parse certificate authority: %w", err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(authority)
	header := http.Header{"Authorization": {"Bearer " + bearer}}
	return requestCertificate(ctx, o, ca, &tls.Config{RootCAs: pool, ServerName: o.Cloud, MinVersion: tls.VersionTLS12}, header)
}

// renew gets a new certificate for a new key with the old certificate as proof, without any token (spec 02 §6.1).
func renew(ctx context.Context, o *Options, old *Identity) (*Identity, error) {
	ctx, cancel := context.WithTimeout(ctx, o.Timing.Join)
	defer cancel()
	id, err := requestCertificate(ctx, o, old.CA, old.TLS(o.Cloud), http.Header{})
	if err != nil {
		return nil, fmt.Errorf("renew certificate of node %s at %s: %w", o.Name, o.httpsAddress(), err)
	}
	return id, nil
}

func requestCertificate(ctx context.Context, o *Options, ca []byte, config *tls.Config, header http.Header) (*Identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate key: %w", err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{
			Country:      []string{"CN"},
			Province:     []string{"Zhejiang"},
			Locality:     []string{"Hangzhou"},
			Organization: []string{"system:nodes"},
			CommonName:   "system:node:" + o.Name,
		},
	}, key)
	if err != nil {
		return nil, fmt.Errorf("make certificate request: %w", err)
	}
	header.Set("Nodename", o.Name)
	certificate, err := get(ctx, o, config, "/edge.crt", header, csr)
	if err != nil {
		return nil, err
	}
	return newIdentity(ca, certificate, key)
}

// get sends a GET, with a body if there is one, over a connection of its own.
func get(ctx context.Context, o *Options, config *tls.Config, path string, header http.Header, body []byte) ([]byte, error) {
	transport := &http.Transport{
		DialContext:       o.Dial,
		TLSClientConfig:   config,
		DisableKeepAlives: true,
	}
	defer transport.CloseIdleConnections()
	var reader io.Reader
	if body != nil {
		reader = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+o.httpsAddress()+path, reader)
	if err != nil {
		return nil, fmt.Errorf("make request for %s: %w", path, err)
	}
	if header != nil {
		req.Header = header
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", path, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxCertificateBody))
	if err != nil {
		return nil, fmt.Errorf("read answer to %s: %w", path, err)
	}
	switch {
	case resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden:
		return nil, fmt.Errorf("get %s: %w: %s: %s", path, ErrTokenRefused, resp.Status, firstLine(answer))
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("get %s: %s: %s", path, resp.Status, firstLine(answer))
	}
	return answer, nil
}

// firstLine shortens an answer for an error text.
func firstLine(b []byte) string {
	line, _, _ := bytes.Cut(bytes.TrimSpace(b), []byte("\n"))
	if len(line) > 200 {
		line = line[:200]
	}
	return string(line)
}
