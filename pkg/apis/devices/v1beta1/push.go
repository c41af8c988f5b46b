package v1beta1

import "k8s.io/apimachinery/pkg/runtime"

// PushMethod says where a mapper pushes the values of a property to. It is the
// business of the mapper; the cloud side only passes it on.
type PushMethod struct {
	// HTTP pushes to an HTTP server.
	// +optional
	HTTP *PushMethodHTTP `json:"http,omitempty"`

	// MQTT pushes to an MQTT broker.
	// +optional
	MQTT *PushMethodMQTT `json:"mqtt,omitempty"`

	// OTEL pushes to an OpenTelemetry collector.
	// +optional
	OTEL *PushMethodOTEL `json:"otel,omitempty"`

	// DBMethod pushes to a database.
	// +optional
	DBMethod *DBMethod `json:"dbMethod,omitempty"`

	// AnomalyDetection are settings for the detection of unusual values.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	AnomalyDetection *runtime.RawExtension `json:"anomalyDetection,omitempty"`
}

// PushMethodHTTP is an HTTP server.
type PushMethodHTTP struct {
	// HostName is the name or address of the server.
	// +optional
	HostName string `json:"hostName,omitempty"`

	// Port is the port of the server.
	// +optional
	Port int64 `json:"port,omitempty"`

	// RequestPath is the path of the request.
	// +optional
	RequestPath string `json:"requestPath,omitempty"`

	// Timeout bounds a request, in the unit of the mapper.
	// +optional
	Timeout int64 `json:"timeout,omitempty"`
}

// PushMethodMQTT is an MQTT broker.
type PushMethodMQTT struct {
	// Address is the URL of the broker.
	// +optional
	Address string `json:"address,omitempty"`

	// Topic is what values are published to.
	// +optional
	Topic string `json:"topic,omitempty"`

	// QoS is the MQTT quality of service: 0, 1 or 2.
	// +optional
	QoS int32 `json:"qos,omitempty"`

	// Retained asks the broker to keep the newest value.
	// +optional
	Retained bool `json:"retained,omitempty"`
}

// PushMethodOTEL is an OpenTelemetry collector.
type PushMethodOTEL struct {
	// EndpointURL is the URL of the collector.
	// +optional
	EndpointURL string `json:"endpointURL,omitempty"`
}

// DBMethod is a database.
type DBMethod struct {
	// Influxdb2 is an InfluxDB of version 2.
	// +optional
	Influxdb2 *DBMethodInfluxdb2 `json:"influxdb2,omitempty"`

	// Redis is a Redis server.
	// +optional
	Redis *DBMethodRedis `json:"redis,omitempty"`

	// TDEngine is a TDengine server.
	// +optional
	TDEngine *DBMethodTDEngine `json:"TDEngine,omitempty"`

	// MySQL is a MySQL server.
	// +optional
	MySQL *DBMethodMySQL `json:"mysql,omitempty"`
}

// DBMethodInfluxdb2 is an InfluxDB of version 2.
type DBMethodInfluxdb2 struct {
	// ClientConfig is where the database is.
	// +optional
	ClientConfig *Influxdb2Client `json:"influxdb2ClientConfig,omitempty"`

	// DataConfig is how values are stored.
	// +optional
	DataConfig *Influxdb2Data `json:"influxdb2DataConfig,omitempty"`
}

// Influxdb2Client is where an InfluxDB is.
type Influxdb2Client struct {
	// URL is the URL of the server.
	// +optional
	URL string `json:"url,omitempty"`

	// Org is the organisation that owns the bucket.
	// +optional
	Org string `json:"org,omitempty"`

	// Bucket is where values are stored.
	// +optional
	Bucket string `json:"bucket,omitempty"`
}

// Influxdb2Data is how values are stored in an InfluxDB.
type Influxdb2Data struct {
	// Measurement is the name of the measurement.
	// +optional
	Measurement string `json:"measurement,omitempty"`

	// Tag are the tags of a point.
	// +optional
	Tag map[string]string `json:"tag,omitempty"`

	// FieldKey is the field that holds the value.
	// +optional
	FieldKey string `json:"fieldKey,omitempty"`
}

// DBMethodRedis is a Redis server.
type DBMethodRedis struct {
	// ClientConfig is where the server is.
	// +optional
	ClientConfig *RedisClient `json:"redisClientConfig,omitempty"`
}

// RedisClient is where a Redis server is.
type RedisClient struct {
	// Addr is host and port of the server.
	// +optional
	Addr string `json:"addr,omitempty"`

	// DB is the number of the database.
	// +optional
	DB int `json:"db,omitempty"`

	// PoolSize is the largest number of connections.
	// +optional
	PoolSize int `json:"poolsize,omitempty"`

	// MinIdleConns is the number of connections that are kept open.
	// +optional
	MinIdleConns int `json:"minIdleConns,omitempty"`
}

// DBMethodTDEngine is a TDengine server.
type DBMethodTDEngine struct {
	// ClientConfig is where the server is.
	// +optional
	ClientConfig *TDEngineClient `json:"TDEngineClientConfig,omitempty"`
}

// TDEngineClient is where a TDengine server is.
type TDEngineClient struct {
	// Addr is host and port of the server.
	// +optional
	Addr string `json:"addr,omitempty"`

	// DBName is the name of the database.
	// +optional
	DBName string `json:"dbName,omitempty"`
}

// DBMethodMySQL is a MySQL server.
type DBMethodMySQL struct {
	// ClientConfig is where the server is.
	// +optional
	ClientConfig *MySQLClient `json:"mysqlClientConfig,omitempty"`
}

// MySQLClient is where a MySQL server is.
type MySQLClient struct {
	// Addr is host and port of the server.
	// +optional
	Addr string `json:"addr,omitempty"`

	// Database is the name of the database.
	// +optional
	Database string `json:"database,omitempty"`

	// UserName is the user that the mapper logs in as.
	// +optional
	UserName string `json:"userName,omitempty"`
}
