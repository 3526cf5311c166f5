import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.Future;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Kafka's own producer as the other side of the tests, run from its source by the JRE: java -cp 'libs/*' Produce.java.
 *
 * Orders on stdin, one a line: "producer NAME=VALUE …" sends what is held and starts another producer with these settings;
 * "record TOPIC PARTITION TIMESTAMP KEY VALUE HEADER=VALUE …" gives it a record. Bytes are hexadecimal digits behind an x,
 * null is -, header names are hexadecimal digits. At the end of the input "sent N" is printed, once every record is
 * confirmed.
 */
public class Produce {
    private static KafkaProducer<byte[], byte[]> producer;
    private static final List<Future<RecordMetadata>> UNDER_WAY = new ArrayList<>();

    public static void main(String[] arguments) throws Exception {
        BufferedReader orders = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
        long sent = 0;
        for (String line = orders.readLine(); line != null; line = orders.readLine()) {
            String[] words = line.split(" ");
            switch (words[0]) {
                case "producer" -> {
                    finish();
                    producer = start(words);
                }
                case "record" -> {
                    UNDER_WAY.add(producer.send(record(words)));
                    sent++;
                }
                default -> throw new IllegalArgumentException(words[0]);
            }
        }
        finish();
        System.out.println("sent " + sent);
    }

    private static KafkaProducer<byte[], byte[]> start(String[] words) {
        Properties settings = new Properties();
        for (int i = 1; i < words.length; i++) {
            String[] pair = words[i].split("=", 2);
            settings.put(pair[0], pair[1]);
        }
        return new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer());
    }

    private static ProducerRecord<byte[], byte[]> record(String[] words) {
        List<Header> headers = new ArrayList<>();
        for (int i = 6; i < words.length; i++) {
            String[] pair = words[i].split("=", 2);
            String name = new String(HexFormat.of().parseHex(pair[0]), StandardCharsets.UTF_8);
            headers.add(new RecordHeader(name, bytes(pair[1])));
        }
        return new ProducerRecord<>(words[1], Integer.valueOf(words[2]), Long.valueOf(words[3]), bytes(words[4]),
            bytes(words[5]), headers);
    }

    private static byte[] bytes(String word) {
        return word.equals("-") ? null : HexFormat.of().parseHex(word, 1, word.length());
    }

    private static void finish() throws Exception {
        if (producer != null) {
            producer.close();
        }
        for (Future<RecordMetadata> confirmed : UNDER_WAY) {
            confirmed.get();
        }
        UNDER_WAY.clear();
    }
}
