package cluster

import (
	"strconv"

	"github.com/cloudcore-io/cloudcore/hack/localcluster/internal/pki"
)

// flagsOf returns the command line of a component. Everything that is not named here keeps the default of Kubernetes,
// so that tests meet the behaviour of a real cluster.
func (c *Cluster) flagsOf(name string, ports *ports) []string {
	switch name {
	case Etcd:
		return c.etcdFlags(ports)
	case APIServer:
		return c.apiserverFlags(ports)
	case ControllerManager:
		return c.controllerManagerFlags(ports)
	default:
		return c.schedulerFlags(ports)
	}
}

func (c *Cluster) etcdFlags(ports *ports) []string {
	server := pki.Pair(c.dir.etcdPKI(), "server")
	return []string{
		"--data-dir=" + c.dir.etcdData(),
		"--client-url=" + ports.urlOf(Etcd),
		"--cert-file=" + server.Cert,
		"--key-file=" + server.Key,
		"--trusted-ca-file=" + pki.Pair(c.dir.etcdPKI(), "ca").Cert,
		"--fsync=" + strconv.FormatBool(c.cfg.Fsync),
	}
}

// serving returns the flags that the three servers of Kubernetes share. They share the certificate too: it only says
// that this is 127.0.0.1.
func (c *Cluster) serving(name string, ports *ports) []string {
	server := pki.Pair(c.dir.pki(), "apiserver")
	return []string{
		"--bind-address=127.0.0.1",
		"--secure-port=" + strconv.Itoa(ports.of[name].Number()),
		"--tls-cert-file=" + server.Cert,
		"--tls-private-key-file=" + server.Key,
		"--client-ca-file=" + pki.Pair(c.dir.pki(), "ca").Cert,
	}
}

func (c *Cluster) apiserverFlags(ports *ports) []string {
	etcd := pki.Pair(c.dir.etcdPKI(), "client")
	kubelet := pki.Pair(c.dir.pki(), "apiserver-kubelet-client")
	flags := append(c.serving(APIServer, ports),
		"--etcd-servers="+ports.urlOf(Etcd),
		"--etcd-cafile="+pki.Pair(c.dir.etcdPKI(), "ca").Cert,
		"--etcd-certfile="+etcd.Cert,
		"--etcd-keyfile="+etcd.Key,
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-signing-key-file="+c.dir.path("pki", "sa.key"),
		"--service-account-key-file="+c.dir.path("pki", "sa.pub"),
		"--service-cluster-ip-range="+serviceCIDR,
		"--kubelet-client-certificate="+kubelet.Cert,
		"--kubelet-client-key="+kubelet.Key,
		"--kubelet-preferred-address-types=InternalIP",
		"--allow-privileged=true",
		// Endpoints must not be loopback addresses, so the Service "kubernetes" has none.
		"--endpoint-reconciler-type=none",
		// By default a stop waits a minute for watches to end.
		"--shutdown-watch-termination-grace-period=1s",
	)
	if c.cfg.WithoutControllers {
		// Nobody makes the default service accounts that this plugin waits for before it admits a pod.
		flags = append(flags, "--disable-admission-plugins=ServiceAccount")
	}
	if c.cfg.AuditLog != "" {
		flags = append(flags,
			"--audit-policy-file="+c.dir.auditPolicy(),
			"--audit-log-path="+c.cfg.AuditLog,
			// Tests count lines: no rotation under 10 GB.
			"--audit-log-maxsize=10000",
		)
	}
	return flags
}

// client returns the flags of a component that uses the apiserver. There is one of each, so nobody is elected.
func (c *Cluster) client(name string) []string {
	return []string{
		"--kubeconfig=" + c.dir.kubeconfig(name),
		"--authorization-kubeconfig=" + c.dir.kubeconfig(name),
		"--authentication-skip-lookup=true",
		"--leader-elect=false",
	}
}

func (c *Cluster) controllerManagerFlags(ports *ports) []string {
	ca := pki.Pair(c.dir.pki(), "ca")
	return append(append(c.serving(ControllerManager, ports), c.client(ControllerManager)...),
		"--use-service-account-credentials=true",
		"--service-account-private-key-file="+c.dir.path("pki", "sa.key"),
		"--root-ca-file="+ca.Cert,
		"--cluster-signing-cert-file="+ca.Cert,
		"--cluster-signing-key-file="+ca.Key,
		// The default is a folder of the machine, which the volume controllers create.
		"--flex-volume-plugin-dir="+c.dir.path("flexvolume"),
		// At the default of 20 requests a second the controllers need 5 s to make their service accounts.
		"--kube-api-qps=200",
		"--kube-api-burst=400",
	)
}

func (c *Cluster) schedulerFlags(ports *ports) []string {
	return append(c.serving(Scheduler, ports), c.client(Scheduler)...)
}
