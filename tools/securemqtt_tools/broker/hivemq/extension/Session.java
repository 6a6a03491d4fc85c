package securemqtt;

import com.hivemq.extension.sdk.api.auth.*;
import com.hivemq.extension.sdk.api.auth.parameter.*;
import com.hivemq.extension.sdk.api.client.parameter.ConnectionInformation;
import com.hivemq.extension.sdk.api.interceptor.publish.*;
import com.hivemq.extension.sdk.api.interceptor.publish.parameter.*;
import com.hivemq.extension.sdk.api.packets.general.MqttVersion;
import com.hivemq.extension.sdk.api.packets.publish.AckReasonCode;
import java.math.BigInteger;
import java.net.InetAddress;
import java.security.cert.*;
import java.util.function.Supplier;

/** One connection: whose it is by its certificate, and what it may do at this moment. */
final class Session implements PublishAuthorizer, SubscriptionAuthorizer, PublishInboundInterceptor,
        PublishOutboundInterceptor {
    /** The user property of a will that says whose it is, as it is published later. */
    static final String WILL_OF = "securemqtt-will-of";

    /** The CN, which is all of its certificate's subject; null where it can be no identity. */
    final String identity;
    /** Whose it is, from where, and its certificate's number, for the log. */
    final String who;
    private final X509Certificate certificate;
    private final String addressBits;
    private final boolean isVersion5;
    private final Supplier<Access> access;

    Session(ConnectionInformation connection, Supplier<Access> access) {
        this.access = access;
        certificate = connection.getClientTlsInformation()
                .flatMap(tls -> tls.getClientCertificate()).orElse(null);
        String subject = certificate == null ? "" : certificate.getSubjectX500Principal().getName();
        // As check_device_id() of names.py: it becomes a level of topics.
        boolean isName = subject.matches("CN=[A-Za-z0-9_][A-Za-z0-9_-]{0,63}");
        identity = isName ? subject.substring(3) : null;
        InetAddress address = connection.getInetAddress().orElse(null);
        addressBits = address == null ? "" : bits(address);
        isVersion5 = connection.getMqttVersion() == MqttVersion.V_5;
        who = identity + " from " + (address == null ? "?" : address.getHostAddress())
                + " with certificate "
                + (certificate == null ? "?" : certificate.getSerialNumber().toString(16));
    }

    private static String bits(InetAddress address) {
        byte[] bytes = address.getAddress();
        String bits = new BigInteger(1, bytes).toString(2);
        String zeros = "0".repeat(bytes.length * 8 - bits.length());
        return (bytes.length == 4 ? "4:" : "6:") + zeros + bits;
    }

    /** Return why this connection may not be; null if it may. */
    String refusal() {
        if (identity == null) {
            return "its certificate names no identity";
        }
        try {
            certificate.checkValidity(); // TLS does not look at it again where a session is resumed
        } catch (CertificateException error) {
            return "its certificate is not valid now";
        }
        Access now = access.get();
        if (now.isRevoked(certificate)) {
            return "its certificate has been revoked";
        }
        return now.mayComeFrom(identity, addressBits) ? null : "it comes from another network";
    }

    /** Return whether it may "read" or "write" a topic or filter. */
    boolean may(String action, String topicFilter) {
        return refusal() == null && access.get().allows(identity, action, topicFilter);
    }

    /** Drop what may not be published, acknowledged: MQTT 3.1.1 has no other answer. */
    @Override
    public void onInboundPublish(PublishInboundInput input, PublishInboundOutput output) {
        if (!may("write", input.getPublishPacket().getTopic())) {
            output.preventPublishDelivery(
                    isVersion5 ? AckReasonCode.NOT_AUTHORIZED : AckReasonCode.SUCCESS);
        } else if (!input.getPublishPacket().getUserProperties().isEmpty()) {
            output.getPublishPacket().getUserProperties().removeName(WILL_OF);
        }
    }

    /** HiveMQ asks once more, about what has come by no interceptor as well. */
    @Override
    public void authorizePublish(PublishAuthorizerInput input, PublishAuthorizerOutput output) {
        if (may("write", input.getPublishPacket().getTopic())) {
            output.authorizeSuccessfully();
        } else {
            output.failAuthorization();
        }
    }

    @Override
    public void authorizeSubscribe(
            SubscriptionAuthorizerInput input, SubscriptionAuthorizerOutput output) {
        if (may("read", input.getSubscription().getTopicFilter())) {
            output.authorizeSuccessfully();
        } else {
            output.failAuthorization();
        }
    }

    /** Deliver what may be read at this moment, whatever was subscribed to before. */
    @Override
    public void onOutboundPublish(PublishOutboundInput input, PublishOutboundOutput output) {
        String topic = input.getPublishPacket().getTopic();
        String author = input.getPublishPacket().getUserProperties().getFirst(WILL_OF).orElse(null);
        if (!may("read", topic) || author != null && !access.get().allows(author, "write", topic)) {
            output.preventPublishDelivery();
        } else if (author != null) {
            output.getPublishPacket().getUserProperties().removeName(WILL_OF);
        }
    }
}
