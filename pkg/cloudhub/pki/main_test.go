package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"net"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("k8s.io/klog/v2.(*flushDaemon).run.func1"))
}

// newAPI is a fake apiserver that, unlike the plain fake, numbers versions and refuses an update of an old one.
func newAPI(tb testing.TB, objects ...runtime.Object) *fake.Clientset {
	tb.Helper()
	api := fake.NewClientset(objects...)
	version := 100
	next := func(secret *corev1.Secret) {
		version++
		secret.ResourceVersion = strconv.Itoa(version)
	}
	api.PrependReactor("create", "secrets", func(action clienttesting.Action) (bool, runtime.Object, error) {
		next(action.(clienttesting.CreateAction).GetObject().(*corev1.Secret))
		return false, nil, nil
	})
	api.PrependReactor("update", "secrets", func(action clienttesting.Action) (bool, runtime.Object, error) {
		secret := action.(clienttesting.UpdateAction).GetObject().(*corev1.Secret)
		stored, err := api.Tracker().Get(action.GetResource(), secret.Namespace, secret.Name)
		if err != nil {
			return true, nil, err
		}
		if stored.(*corev1.Secret).ResourceVersion != secret.ResourceVersion {
			return true, nil, apierrors.NewConflict(action.GetResource().GroupResource(), secret.Name, errors.New("old version"))
		}
		next(secret)
		return false, nil, nil
	})
	return api
}

func testConfig() Config {
	return Config{AdvertiseAddresses: []string{"127.0.0.1"}}
}

func newAuthority(tb testing.TB, cfg Config, api kubernetes.Interface) *Authority {
	tb.Helper()
	a, err := New(cfg, api, nil)
	if err != nil {
		tb.Fatalf("New: %v", err)
	}
	return a
}

// loaded returns an authority with everything in place.
func loaded(tb testing.TB, cfg Config, api kubernetes.Interface) *Authority {
	tb.Helper()
	a := newAuthority(tb, cfg, api)
	if err := a.Load(tb.Context()); err != nil {
		tb.Fatalf("Load: %v", err)
	}
	return a
}

func getSecret(tb testing.TB, api kubernetes.Interface, name string) *corev1.Secret {
	tb.Helper()
	secret, err := api.CoreV1().Secrets(DefaultNamespace).Get(tb.Context(), name, metav1.GetOptions{})
	if err != nil {
		tb.Fatalf("get secret %s: %v", name, err)
	}
	return secret
}

func secretOf(name string, data map[string][]byte) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: DefaultNamespace, Name: name, ResourceVersion: "1"},
		Type:       corev1.SecretTypeOpaque,
		Data:       data,
	}
}

func namespaceOf(name string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
}

// writes counts what changed Secrets.
func writes(api *fake.Clientset) (n int) {
	for _, action := range api.Actions() {
		if action.GetResource().Resource == "secrets" && action.GetVerb() != "get" {
			n++
		}
	}
	return n
}

func newKey(tb testing.TB) *ecdsa.PrivateKey {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

// referenceSecrets builds what CloudCore v1.23 leaves in a cluster, by the tables of spec 02 §5 and without any code
// of this package.
func referenceSecrets(tb testing.TB, ips ...string) []*corev1.Secret {
	tb.Helper()
	now := time.Now()
	caKey, serverKey := newKey(tb), newKey(tb)
	caTemplate := &x509.Certificate{
		SerialNumber: big.NewInt(1024), Subject: pkix.Name{CommonName: "KubeEdge"},
		NotBefore: now, NotAfter: now.Add(36400 * 24 * time.Hour),
		KeyUsage:    x509.KeyUsageKeyEncipherment | x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IsCA:        true, BasicConstraintsValid: true,
	}
	serverTemplate := &x509.Certificate{
		SerialNumber: big.NewInt(77), Subject: pkix.Name{CommonName: "KubeEdge", Organization: []string{"KubeEdge"}},
		NotBefore: now, NotAfter: now.Add(36400 * 24 * time.Hour),
		KeyUsage:    x509.KeyUsageKeyEncipherment | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{""}, // its default dnsNames
	}
	for _, ip := range ips {
		serverTemplate.IPAddresses = append(serverTemplate.IPAddresses, net.ParseIP(ip))
	}
	caDER := mustDER(x509.CreateCertificate(rand.Reader, caTemplate, caTemplate, &caKey.PublicKey, caKey))
	serverDER := mustDER(x509.CreateCertificate(rand.Reader, serverTemplate, caTemplate, &serverKey.PublicKey, caKey))
	caKeyDER, serverKeyDER := mustDER(x509.MarshalECPrivateKey(caKey)), mustDER(x509.MarshalECPrivateKey(serverKey))
	hash := sha256.Sum256(caDER)
	token := hex.EncodeToString(hash[:]) + "." + referenceJWT(caKeyDER, now.Add(20*time.Hour))
	return []*corev1.Secret{
		secretOf("casecret", map[string][]byte{"cadata": caDER, "cakeydata": caKeyDER}),
		secretOf("cloudcoresecret", map[string][]byte{"cloudcoredata": serverDER, "cloudcorekeydata": serverKeyDER}),
		secretOf("tokensecret", map[string][]byte{"tokendata": []byte(token)}),
	}
}

func referenceJWT(key []byte, expires time.Time) string {
	return signJWT(key, `{"alg":"HS256","typ":"JWT"}`, fmt.Sprintf(`{"exp":%d}`, expires.Unix()))
}

func signJWT(key []byte, header, claims string) string {
	signed := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims))
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(signed))
	return signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func mustDER(der []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return der
}

// edgeRequest is the certificate request of an unmodified EdgeCore (spec 02 §6.1).
func edgeRequest(tb testing.TB, key any, node string, change ...func(*x509.CertificateRequest)) []byte {
	tb.Helper()
	template := &x509.CertificateRequest{Subject: pkix.Name{
		Country: []string{"CN"}, Province: []string{"Zhejiang"}, Locality: []string{"Hangzhou"},
		Organization: []string{"system:nodes"}, CommonName: "system:node:" + node,
	}}
	for _, f := range change {
		f(template)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

// issue makes a node certificate the proper way.
func issue(tb testing.TB, a *Authority, node string) (*x509.Certificate, *ecdsa.PrivateKey) {
	tb.Helper()
	key := newKey(tb)
	der, err := a.IssueNodeCertificate(NodeRequest{Node: node, CSR: edgeRequest(tb, key, node)})
	if err != nil {
		tb.Fatalf("issue certificate of %s: %v", node, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return cert, key
}

// signAs makes a certificate of any shape under the authority's CA.
func signAs(tb testing.TB, a *Authority, key *ecdsa.PrivateKey, template *x509.Certificate) *x509.Certificate {
	tb.Helper()
	ca := a.ca.Load()
	template.SerialNumber = big.NewInt(9)
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	der := mustDER(x509.CreateCertificate(rand.Reader, template, ca.cert, &key.PublicKey, ca.key.Signer))
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return cert
}

func wantRefusal(tb testing.TB, err error, want Reason) {
	tb.Helper()
	var refusal *RefusalError
	if !errors.As(err, &refusal) {
		tb.Fatalf("got error %v, want a refusal with reason %s", err, want)
	}
	if refusal.Reason != want {
		tb.Fatalf("got reason %s (%v), want %s", refusal.Reason, err, want)
	}
}
