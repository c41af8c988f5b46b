package v1alpha1

// Values that defaults and rules share.
const (
	DefaultConfigFile = "/etc/kubeedge/config/cloudcore.yaml"

	defaultNodeLimit = 500  // since 1.13; the minimal file asks for minimalNodeLimit
	minimalNodeLimit = 1000 // spec 01 §4.2, column M
	defaultQueue     = 1024

	ContentTypeProtobuf = "application/vnd.kubernetes.protobuf"
	ContentTypeJSON     = "application/json"

	defaultCAFile         = "/etc/kubeedge/ca/rootCA.crt"
	defaultCAKeyFile      = "/etc/kubeedge/ca/rootCA.key"
	defaultCertFile       = "/etc/kubeedge/certs/server.crt"
	defaultKeyFile        = "/etc/kubeedge/certs/server.key"
	defaultStreamCAFile   = "/etc/kubeedge/ca/streamCA.crt"
	defaultStreamCertFile = "/etc/kubeedge/certs/stream.crt"
	defaultStreamKeyFile  = "/etc/kubeedge/certs/stream.key"

	anyAddress = "0.0.0.0"
)

// Default returns the value of every key that a file leaves out (spec 01 §4, column D). The
// caller owns the result. advertiseAddress is empty: finding the address of this host is the
// business of CleanAddresses.
func Default() *CloudCoreConfig {
	return &CloudCoreConfig{
		APIVersion: APIVersion,
		Kind:       Kind,
		CommonConfig: CommonConfig{
			TunnelPort:    10350,
			MonitorServer: MonitorServer{BindAddress: "127.0.0.1:9091"},
		},
		KubeAPIConfig: KubeAPIConfig{
			ContentType: ContentTypeProtobuf,
			QPS:         5 * defaultNodeLimit,
			Burst:       10 * defaultNodeLimit,
		},
		Modules: Modules{
			CloudHub:         defaultCloudHub(),
			EdgeController:   defaultEdgeController(),
			DeviceController: defaultDeviceController(),
			TaskManager: TaskManager{
				Buffer: TaskManagerBuffer{TaskStatus: defaultQueue, TaskEvent: 1},
				Load:   TaskManagerLoad{TaskWorkers: 1},
			},
			SyncController: SyncController{Enable: true},
			CloudStream: CloudStream{
				TLSTunnelCAFile:         defaultCAFile,
				TLSTunnelCertFile:       defaultCertFile,
				TLSTunnelPrivateKeyFile: defaultKeyFile,
				TunnelPort:              10004,
				TLSStreamCAFile:         defaultStreamCAFile,
				TLSStreamCertFile:       defaultStreamCertFile,
				TLSStreamPrivateKeyFile: defaultStreamKeyFile,
				StreamPort:              10003,
			},
			Router:          Router{Address: anyAddress, Port: 9443, RestTimeout: 60},
			IptablesManager: IptablesManager{Enable: true, Mode: IptablesInternal},
		},
	}
}

// Minimal returns what the minimal file says, as a whole configuration: the defaults, but for
// the node limit of that file.
func Minimal() *CloudCoreConfig {
	c := Default()
	c.Modules.CloudHub.NodeLimit = minimalNodeLimit
	return c
}

func defaultCloudHub() CloudHub {
	return CloudHub{
		Enable:                  true,
		KeepaliveInterval:       30,
		NodeLimit:               defaultNodeLimit,
		TLSCAFile:               defaultCAFile,
		TLSCAKeyFile:            defaultCAKeyFile,
		TLSCertFile:             defaultCertFile,
		TLSPrivateKeyFile:       defaultKeyFile,
		WriteTimeout:            30,
		DNSNames:                []string{""},
		EdgeCertSigningDuration: 365,
		TokenRefreshDuration:    12,
		Quic:                    QUIC{Address: anyAddress, Port: 10001, MaxIncomingStreams: 10000},
		UnixSocket:              UnixSocket{Enable: true, Address: "unix:///var/lib/kubeedge/kubeedge.sock"},
		WebSocket:               WebSocket{Enable: true, Address: anyAddress, Port: 10000},
		HTTPS:                   HTTPS{Enable: true, Address: anyAddress, Port: 10002},
		Authorization: Authorization{
			Debug: true,
			Modes: []AuthorizationMode{{Node: NodeAuthorization{Enable: true}}},
		},
	}
}

func defaultEdgeController() EdgeController {
	return EdgeController{
		Enable:              true,
		NodeUpdateFrequency: 10,
		Buffer: EdgeControllerBuffer{
			UpdatePodStatus:            defaultQueue,
			UpdateNodeStatus:           defaultQueue,
			QueryConfigMap:             defaultQueue,
			QuerySecret:                defaultQueue,
			PodEvent:                   1,
			ConfigMapEvent:             1,
			SecretEvent:                1,
			RulesEvent:                 1,
			RuleEndpointsEvent:         1,
			QueryPersistentVolume:      defaultQueue,
			QueryPersistentVolumeClaim: defaultQueue,
			QueryVolumeAttachment:      defaultQueue,
			CreateNode:                 defaultQueue,
			PatchNode:                  defaultQueue + defaultNodeLimit/2,
			QueryNode:                  defaultQueue + defaultNodeLimit,
			UpdateNode:                 defaultQueue,
			CreatePod:                  defaultQueue,
			PatchPod:                   defaultQueue,
			DeletePod:                  defaultQueue,
			CreateLease:                defaultQueue + defaultNodeLimit,
			QueryLease:                 defaultQueue,
			ServiceAccountToken:        defaultQueue,
			CertificateSigningRequest:  defaultQueue,
			ProcessEvent:               defaultQueue,
		},
		Load: EdgeControllerLoad{
			UpdatePodStatusWorkers:            1,
			UpdateNodeStatusWorkers:           1,
			ProcessEventWorkers:               4,
			QueryConfigMapWorkers:             100,
			QuerySecretWorkers:                100,
			QueryPersistentVolumeWorkers:      4,
			QueryPersistentVolumeClaimWorkers: 4,
			QueryVolumeAttachmentWorkers:      4,
			CreateNodeWorkers:                 100,
			PatchNodeWorkers:                  100 + defaultNodeLimit/50,
			QueryNodeWorkers:                  defaultNodeLimit,
			UpdateNodeWorkers:                 4,
			CreatePodWorks:                    4,
			PatchPodWorkers:                   100,
			DeletePodWorkers:                  100,
			CreateLeaseWorkers:                defaultNodeLimit,
			QueryLeaseWorkers:                 100,
			UpdateRuleStatusWorkers:           4,
			ServiceAccountTokenWorkers:        100,
			CertificateSigningRequestWorkers:  4,
		},
	}
}

func defaultDeviceController() DeviceController {
	return DeviceController{
		Enable: true,
		Buffer: DeviceControllerBuffer{
			UpdateDeviceTwins:  defaultQueue,
			UpdateDeviceStatus: defaultQueue,
			DeviceEvent:        1,
			DeviceModelEvent:   1,
		},
		Load: DeviceControllerLoad{UpdateDeviceStatusWorkers: 1},
	}
}
