package cluster

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/cloudcore-io/cloudcore/hack/localcluster/internal/pki"
)

const (
	serviceCIDR = "10.96.0.0/16"
	// firstServiceIP is the address of the Service "kubernetes", which is always the first of the range.
	firstServiceIP = "10.96.0.1"
)

// credentials are the TLS settings with which this process asks the components for their health.
type credentials struct {
	admin *tls.Config
	etcd  *tls.Config
}

// issued names a certificate of the cluster and what it is for.
type issued struct {
	name string
	leaf pki.Leaf
}

func clusterLeaves() []issued {
	client := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	masters := []string{"system:masters"}
	return []issued{
		{"apiserver", pki.Leaf{
			User: "kube-apiserver",
			DNSNames: []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
				"kubernetes.default.svc.cluster.local"},
			Addresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback, net.ParseIP(firstServiceIP)},
			Usage:     []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		}},
		{"apiserver-kubelet-client", pki.Leaf{User: "kube-apiserver-kubelet-client", Groups: masters, Usage: client}},
		{"admin", pki.Leaf{User: "kubernetes-admin", Groups: masters, Usage: client}},
		{ControllerManager, pki.Leaf{User: "system:kube-controller-manager", Usage: client}},
		{Scheduler, pki.Leaf{User: "system:kube-scheduler", Usage: client}},
	}
}

func etcdLeaves() []issued {
	return []issued{
		{"server", pki.Leaf{
			User:      "etcd",
			DNSNames:  []string{"localhost"},
			Addresses: []net.IP{net.IPv4(127, 0, 0, 1)},
			Usage:     []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		}},
		{"client", pki.Leaf{User: "kube-apiserver-etcd-client", Usage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}},
	}
}

// openCredentials brings keys, certificates and kubeconfigs in the folder up to date. etcd has a CA of its own,
// because the cluster's CA also signs the requests of users, who must not get at the database.
func openCredentials(dir folder, server string, now time.Time) (*credentials, error) {
	if err := issue(dir.pki(), "kubernetes", clusterLeaves(), now); err != nil {
		return nil, err
	}
	if err := issue(dir.etcdPKI(), "etcd-ca", etcdLeaves(), now); err != nil {
		return nil, err
	}
	if err := pki.EnsureSigningKey(dir.path("pki", "sa.key"), dir.path("pki", "sa.pub")); err != nil {
		return nil, err
	}
	for user, file := range map[string]string{
		"admin":           dir.adminConf(),
		ControllerManager: dir.kubeconfig(ControllerManager),
		Scheduler:         dir.kubeconfig(Scheduler),
	} {
		if err := writeKubeconfig(file, server, user, dir.pki()); err != nil {
			return nil, err
		}
	}
	admin, adminErr := clientTLS(dir.pki(), "admin")
	etcd, etcdErr := clientTLS(dir.etcdPKI(), "client")
	if err := errors.Join(adminErr, etcdErr); err != nil {
		return nil, err
	}
	return &credentials{admin: admin, etcd: etcd}, nil
}

func issue(dir, authority string, leaves []issued, now time.Time) error {
	ca, err := pki.OpenAuthority(pki.Pair(dir, "ca"), authority, now)
	if err != nil {
		return err
	}
	for _, i := range leaves {
		if err := ca.Ensure(pki.Pair(dir, i.name), i.leaf); err != nil {
			return err
		}
	}
	return nil
}

// writeKubeconfig writes a kubeconfig that needs no other file, so that it may be copied.
func writeKubeconfig(file, server, user, pkiDir string) error {
	pair := pki.Pair(pkiDir, user)
	ca, caErr := os.ReadFile(pki.Pair(pkiDir, "ca").Cert)
	cert, certErr := os.ReadFile(pair.Cert)
	key, keyErr := os.ReadFile(pair.Key)
	if err := errors.Join(caErr, certErr, keyErr); err != nil {
		return fmt.Errorf("make kubeconfig %s: %w", file, err)
	}
	const name = "localcluster"
	config := clientcmdapi.NewConfig()
	config.Clusters[name] = &clientcmdapi.Cluster{Server: server, CertificateAuthorityData: ca}
	config.AuthInfos[user] = &clientcmdapi.AuthInfo{ClientCertificateData: cert, ClientKeyData: key}
	config.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: user}
	config.CurrentContext = name
	data, err := clientcmd.Write(*config)
	if err != nil {
		return fmt.Errorf("encode kubeconfig %s: %w", file, err)
	}
	return pki.WriteFile(file, data)
}

func clientTLS(dir, name string) (*tls.Config, error) {
	pair := pki.Pair(dir, name)
	cert, err := tls.LoadX509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		return nil, fmt.Errorf("load client certificate %s: %w", name, err)
	}
	caFile := pki.Pair(dir, "ca").Cert
	ca, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("load CA: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("load CA: no certificate in %s", caFile)
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: roots, MinVersion: tls.VersionTLS12}, nil
}
